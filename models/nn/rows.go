package nn

import . "github.com/gomlx/gomlx/pkg/core/graph"

// repeatRows maps x [n, ...] to [rows, ...]: the copies of a row stand next to each other, so that they stay on its
// device when the batch is divided over several. rows is a multiple of n.
func repeatRows(x *Node, rows int) *Node {
	n, rest := x.Shape().Dim(0), x.Shape().Dimensions[1:]
	if n == rows {
		return x
	}
	copies := append([]int{n, rows / n}, rest...)
	return Reshape(BroadcastToDims(InsertAxes(x, 1), copies...), append([]int{rows}, rest...)...)
}

// SameRows repeats rows of a [n, ...] or b [m, ...] to the larger number of rows. Networks use it where the two halves
// of classifier-free guidance are the same up to that point, and so were computed once.
func SameRows(a, b *Node) (*Node, *Node) {
	rows := max(a.Shape().Dim(0), b.Shape().Dim(0))
	return repeatRows(a, rows), repeatRows(b, rows)
}

// AddRows is the sum of a [n, ...] and b [m, ...] with the larger number of rows.
func AddRows(a, b *Node) *Node { return Add(SameRows(a, b)) }
