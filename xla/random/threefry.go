package random

import "github.com/gomlx/gomlx/pkg/core/graph"

// threefryRotations are the rotations of Threefry-2×32's eight kinds of round.
var threefryRotations = [8]uint32{13, 15, 26, 6, 17, 29, 16, 24}

// threefry is the block function Threefry-2×32 in 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as
// 1, 2, 3"), which JAX uses too. Words are uint32; scalars go with any shape. GoMLX does not export XLA's own
// generator; this one is plain arithmetic, so the same on every plugin and for every sharding.
func threefry(key0, key1, x0, x1 *graph.Node) (*graph.Node, *graph.Node) {
	g := key0.Graph()
	keys := [3]*graph.Node{
		key0, key1, graph.BitwiseXor(graph.BitwiseXor(key0, key1), graph.Const(g, uint32(0x1BD11BDA))),
	}
	x0, x1 = graph.Add(x0, keys[0]), graph.Add(x1, keys[1])
	for round := range 20 {
		x0 = graph.Add(x0, x1)
		x1 = graph.BitwiseXor(x0, rotateLeft(x1, threefryRotations[round%8]))
		if round%4 == 3 {
			block := round/4 + 1
			x0 = graph.Add(x0, keys[block%3])
			x1 = graph.Add(x1, graph.Add(keys[(block+1)%3], graph.Const(g, uint32(block))))
		}
	}
	return x0, x1
}

func rotateLeft(x *graph.Node, n uint32) *graph.Node {
	return graph.BitwiseOr(graph.BitwiseShiftLeftScalar(x, n), graph.BitwiseShiftRightLogicalScalar(x, 32-n))
}
