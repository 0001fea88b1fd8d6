package safetensors

// Element is the i-th element in an order, of a tensor of F32, F16, BF16, F64 or U8.
func (t Tensor) Element(i int, order Order) (float32, error) {
	return t.at(index(place(i, t.Shape, order), t.Shape, t.Order))
}

// Elements returns the tensor's elements in a dtype of floating point and an order: its own memory if it already holds
// them so, else scratch, which grows as needed.
func (t Tensor) Elements(dtype string, order Order, scratch *[]byte) ([]byte, error) {
	same := t.DType == dtype && (t.Order == order || SameOrder(t.Shape))
	if same && t.from.file == nil {
		return t.data, nil
	}
	size := t.Size() * dtypes[dtype].bits / 8
	if cap(*scratch) < size {
		*scratch = make([]byte, size)
	}
	buf := (*scratch)[:size]
	if same { // also for dtypes that MoveTo does not take
		return buf, t.read(buf, 0)
	}
	return buf, t.MoveTo(buf, dtype, order)
}

// place is the position in the file shape of element i in an order.
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

// axes lists the axes of a file shape of that rank, from the one along which neighbours are farthest apart.
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
