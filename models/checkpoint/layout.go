package checkpoint

import (
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"limner/models/nn"
)

// tile is the side of the squares in which matrices are transposed, so that both the rows read and
// the rows written stay in the first-level cache.
const tile = 64

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

// A reader decodes the elements from at on into dst; a writer takes the elements from at on. Both
// are called from several goroutines, for parts that do not overlap.
type (
	reader func(dst []float32, at int)
	writer func(at int, src []float32) error
)

// copyElements moves all elements of a tensor of this file shape from one order to another.
func copyElements(shape []int, from, to Order, read reader, write writer) error {
	size := Tensor{Shape: shape}.Size()
	if from == to || sameOrder(shape) {
		return spread(size, run, size, func(i0, i1 int) error {
			buf := make([]float32, min(run, i1-i0))
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
	columns := in * area
	row := func(column int) int { return (column%area*in + column/area) * out }
	return spread(out, tile, size, func(i0, i1 int) error {
		square, line := make([]float32, tile*tile), make([]float32, tile)
		for i := i0; i < i1; i += tile {
			rows := min(tile, i1-i)
			for j := 0; j < columns; j += tile {
				if err := copyTile(from, i, rows, j, min(tile, columns-j), columns, row, square, line, read, write); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// copyTile moves the part of the matrix with the given rows from i on and columns from j on. row is
// where a column begins in memory's order.
func copyTile(from Order, i, rows, j, width, columns int, row func(int) int, square, line []float32, read reader, write writer) error {
	if from == FileOrder {
		for r := range rows {
			read(square[r*tile:r*tile+width], (i+r)*columns+j)
		}
		for c := range width {
			for r := range rows {
				line[r] = square[r*tile+c]
			}
			if err := write(row(j+c)+i, line[:rows]); err != nil {
				return err
			}
		}
		return nil
	}
	for c := range width {
		read(line[:rows], row(j+c)+i)
		for r := range rows {
			square[r*tile+c] = line[r]
		}
	}
	for r := range rows {
		if err := write((i+r)*columns+j, square[r*tile:r*tile+width]); err != nil {
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

// toFile changes values from memory's layout to a diffusers file's. It returns its argument where
// the two are the same.
func toFile(s nn.Spec, memory []float32) []float32 {
	shape := s.FileShape()
	if orderOf(s.Kind) == FileOrder || sameOrder(shape) {
		return memory
	}
	file := slices.Clone(memory)
	_ = copyElements(shape, MemoryOrder, FileOrder,
		func(dst []float32, at int) { copy(dst, memory[at:]) },
		func(at int, src []float32) error { copy(file[at:], src); return nil })
	return file
}
