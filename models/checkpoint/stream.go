package checkpoint

import (
	"fmt"

	"limner/models/nn"
)

// Stream is that of nn.Source: it checks the model against the tree as Load does, then calls visit with every parameter in the
// tree's order. No memory is taken but for the parts of one parameter that are on their way. A finite value that F16 cannot
// hold is an error that names it.
func (m *Model) Stream(tree nn.Tree, dtype string, visit nn.Visit) error {
	return m.StreamPart(tree, tree, dtype, visit)
}

// StreamPart checks the model against the tree, then does as Stream for a part of it.
func (m *Model) StreamPart(tree, part nn.Tree, dtype string, visit nn.Visit) error {
	if dtype != "F32" && dtype != "F16" && dtype != "BF16" {
		return fmt.Errorf("load %s: dtype %q: want F32, F16 or BF16", m.path, dtype)
	}
	return m.visit(tree, part, func(s nn.Spec, t Tensor) error {
		return visit(s, func(to []byte) error {
			if err := t.moveTo(to, dtype, orderOf(s.Kind)); err != nil {
				return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
			}
			return nil
		})
	})
}

// Sample checks the model against the tree, then calls visit with n elements of every parameter of a part of it, spread evenly over the
// parameter in memory's layout; with all elements of smaller ones. No more of the file is read than what they lie in.
func (m *Model) Sample(tree, part nn.Tree, n int, visit func(spec nn.Spec, elements []float32) error) error {
	return m.visit(tree, part, func(s nn.Spec, t Tensor) error {
		elements := make([]float32, min(n, s.Size()))
		for i := range elements {
			at := place(sampled(i, len(elements), s.Size()), t.Shape, orderOf(s.Kind))
			var err error
			if elements[i], err = t.at(index(at, t.Shape, t.Order)); err != nil {
				return fmt.Errorf("load %s: %s: %w", m.path, s.Key, err)
			}
		}
		return visit(s, elements)
	})
}

// visit checks the model against the tree and gives the tensors of a part of it.
func (m *Model) visit(tree, part nn.Tree, do func(nn.Spec, Tensor) error) error {
	found, err := m.fit(tree)
	if err != nil {
		return err
	}
	for _, s := range part {
		t, ok := m.tensors[found[s.Key]]
		if !ok {
			return fmt.Errorf("load %s: no parameter %s in the model", m.path, s.Key)
		}
		if err := do(s, t); err != nil {
			return err
		}
	}
	return nil
}

// sampled is where the i-th of n elements lies, which are spread evenly over size.
func sampled(i, n, size int) int { return i * size / n }

// elements returns the tensor's elements in a dtype of floating point and an order: those in memory themselves where
// they are so, else in scratch, which grows as needed.
func (t Tensor) elements(dtype string, order Order, scratch *[]byte) ([]byte, error) {
	same := t.DType == dtype && (t.Order == order || sameOrder(t.Shape))
	if same && t.from.file == nil {
		return t.data, nil
	}
	size := t.Size() * dtypes[dtype].bits / 8
	if cap(*scratch) < size {
		*scratch = make([]byte, size)
	}
	buf := (*scratch)[:size]
	if same { // also of dtypes that are not changed
		return buf, t.read(buf, 0)
	}
	return buf, t.moveTo(buf, dtype, order)
}

// place is the position in a tensor of file shape of the element that stands at i in an order.
func place(i int, shape []int, order Order) []int {
	axes := order.axes(len(shape))
	at := make([]int, len(shape))
	for k := len(axes) - 1; k >= 0; k-- {
		d := max(1, shape[axes[k]])
		at[axes[k]] = i % d
		i /= d
	}
	return at
}

// index is the inverse of place.
func index(at, shape []int, order Order) (i int) {
	for _, axis := range order.axes(len(shape)) {
		i = i*shape[axis] + at[axis]
	}
	return i
}

// axes are those of a file shape of that rank, from the one along which neighbours lie farthest apart.
func (o Order) axes(rank int) []int {
	if o == MemoryOrder && rank == 2 {
		return []int{1, 0}
	} else if o == MemoryOrder && rank == 4 {
		return []int{2, 3, 1, 0}
	}
	axes := make([]int, rank)
	for k := range axes {
		axes[k] = k
	}
	return axes
}
