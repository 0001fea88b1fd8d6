package checkpoint

import (
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"limner/models/nn"
)

// Matrices are transposed in tiles of that many outputs and columns (see copyElements), which stay in the nearest caches. They
// are taller than wide: rows of a tile are read and its columns are written, and writing is dearer.
const (
	tileRows    = 128
	tileColumns = 64
)

// run is how many elements are changed at once where the layout stays.
const run = 1 << 13

// parallelFrom is the number of elements from which the work is spread over cores.
const parallelFrom = 1 << 16

// orderOf is how a parameter's elements stand in memory, in terms of its file shape.
func orderOf(k nn.Kind) Order {
	if k == nn.Dense || k == nn.Kernel {
		return MemoryOrder
	}
	return FileOrder
}

// sameOrder says whether both orders are the same for this shape.
func sameOrder(shape []int) bool {
	long := 0
	for _, d := range shape {
		if d > 1 {
			long++
		}
	}
	return len(shape) != 2 && len(shape) != 4 || long < 2
}

// element is what is moved: values that change their dtype on the way, or bits that do not.
type element interface{ float32 | uint16 | uint32 }

// A reader decodes the elements from at on into dst; a writer takes the elements from at on. Both
// are called from several goroutines, for parts that do not overlap.
type (
	reader[T element] func(dst []T, at int)
	writer[T element] func(at int, src []T) error
)

// copyElements moves all elements of a tensor of this file shape from one order to another.
func copyElements[T element](shape []int, from, to Order, read reader[T], write writer[T]) error {
	size := Tensor{Shape: shape}.Size()
	if from == to || sameOrder(shape) {
		return spread(size, run, size, func(i0, i1 int) error {
			buf := make([]T, min(run, i1-i0))
			for i := i0; i < i1; i += run {
				part := buf[:min(run, i1-i)]
				read(part, i)
				if err := write(i, part); err != nil {
					return err
				}
			}
			return nil
		})
	}
	out, in, area := shape[0], shape[1], 1
	for _, d := range shape[2:] {
		area *= d
	}
	// In file order this is a matrix [out, in·area]; in memory's, its columns are rows, those of one pixel together.
	m := matrix[T]{columns: in * area, in: in, out: out, area: area, read: read, write: write}
	move := m.toMemory
	if from == MemoryOrder {
		move = m.toFile
	}
	return spread(out, tileRows, size, func(i0, i1 int) error {
		square, line := new([tileRows * tileColumns]T), new([tileRows]T)
		for i := i0; i < i1; i += tileRows {
			for j := 0; j < m.columns; j += tileColumns {
				if err := move(square, line, i, min(tileRows, i1-i), j, min(tileColumns, m.columns-j)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// matrix is a tensor whose order changes.
type matrix[T element] struct {
	columns, in, out, area int
	read                   reader[T]
	write                  writer[T]
}

// row is where a column begins in memory's order.
func (m *matrix[T]) row(column int) int { return (column%m.area*m.in + column/m.area) * m.out }

// toMemory moves the square of rows from i on and columns from j on.
func (m *matrix[T]) toMemory(square *[tileRows * tileColumns]T, line *[tileRows]T, i, rows, j, width int) error {
	for r := range rows {
		m.read(square[r*tileColumns:r*tileColumns+width], (i+r)*m.columns+j)
	}
	for c := range width {
		for r := range line { // all of it: what lies beyond rows is not written
			line[r] = square[(r*tileColumns+c)%len(square)]
		}
		if err := m.write(m.row(j+c)+i, line[:rows]); err != nil {
			return err
		}
	}
	return nil
}

// toFile is the inverse of toMemory.
func (m *matrix[T]) toFile(square *[tileRows * tileColumns]T, line *[tileRows]T, i, rows, j, width int) error {
	for c := range width {
		m.read(line[:rows], m.row(j+c)+i)
		for r := range line {
			square[(r*tileColumns+c)%len(square)] = line[r]
		}
	}
	for r := range rows {
		if err := m.write((i+r)*m.columns+j, square[r*tileColumns:r*tileColumns+width]); err != nil {
			return err
		}
	}
	return nil
}

// spread calls do with parts of [0, n), each beginning at a multiple of step, on all cores where the
// tensor is large.
func spread(n, step, size int, do func(i0, i1 int) error) error {
	workers := runtime.GOMAXPROCS(0)
	if size < parallelFrom || workers == 1 {
		return do(0, n)
	}
	part := max(1, n/(4*workers*step)) * step
	var next atomic.Int64
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			for {
				i := int(next.Add(int64(part))) - part
				if i >= n {
					return nil
				}
				if err := do(i, min(i+part, n)); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// toFile changes values from memory's layout to a diffusers file's, in scratch, which grows as needed. It returns its argument where
// the two are the same.
func toFile(s nn.Spec, memory []float32, scratch *[]float32) []float32 {
	shape := s.FileShape()
	if orderOf(s.Kind) == FileOrder || sameOrder(shape) {
		return memory
	}
	*scratch = slices.Grow((*scratch)[:0], len(memory))
	file := (*scratch)[:len(memory)]
	_ = copyElements(shape, MemoryOrder, FileOrder,
		func(dst []float32, at int) { copy(dst, memory[at:]) },
		func(at int, src []float32) error { copy(file[at:], src); return nil })
	return file
}
