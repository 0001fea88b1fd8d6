package xla

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/pjrt"
)

// Process is one of the processes that run programs together, as on a slice of several machines, where each has the
// devices of its own machine. All of them must ask for the same programs, runs and arrays in the same order, or they
// wait for each other for ever.
type Process struct {
	Index, Count int
}

// Alone says that there is no other process.
func (p Process) Alone() bool { return p.Count == 1 }

// Leads says that the process writes what the processes make together.
func (p Process) Leads() bool { return p.Index == 0 }

// seats are the places of devices in the mesh. Those of a process stand one behind another, in the order of the
// processes, so that a process has the rows of a batch that stand one behind another too.
type seats struct {
	process Process
	order   []int // PJRT's number of each device
	local   []int // of this process's devices, the number among those that the client has here
	first   int   // place of the first of them
}

// takeSeats places the devices that a client of a process knows.
func takeSeats(process int, devices []pjrt.Device) (seats, error) {
	s := seats{process: Process{Index: process}}
	sorted := slices.SortedFunc(slices.Values(devices), func(a, b pjrt.Device) int {
		return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.ID, b.ID))
	})
	per := map[int]int{}
	for i, d := range sorted {
		per[d.Process]++
		s.order = append(s.order, d.ID)
		if d.Process != process {
			continue
		}
		if d.Local < 0 {
			return s, fmt.Errorf("device %d is of this process, %d, but cannot be used by it", d.ID, process)
		}
		if len(s.local) == 0 {
			s.first = i
		}
		s.local = append(s.local, d.Local)
	}
	s.process.Count = len(per)
	for other, n := range per {
		if n != len(s.local) {
			return s, fmt.Errorf("process %d has %d devices, process %d has %d: programs run where all have as many",
				process, len(s.local), other, n)
		}
	}
	return s, nil
}

// join takes the seats of the client's devices: of n, or beside other processes of all. It returns how many there are.
func (b *Backend) join(n int) (int, error) {
	process, err := b.client.Process()
	if err != nil {
		return 0, err
	}
	devices, err := b.client.Devices()
	if err != nil {
		return 0, err
	}
	b.kind = devices[0].Kind
	if b.seats, err = takeSeats(process, devices); err != nil {
		return 0, err
	}
	if b.process.Alone() {
		b.order, b.local = b.order[:n], b.local[:n]
		return n, nil
	}
	return len(devices), nil
}

// Process is this process among those that run the backend's programs.
func (b *Backend) Process() Process { return b.process }

// Own is how many of the devices are this process's.
func (b *Backend) Own() int { return len(b.local) }

// Rows are those of a batch of n that this process puts on its devices: from the first up to the second. n is a
// multiple of Devices.
func (b *Backend) Rows(n int) (from, to int) {
	each := n / b.n
	return b.first * each, (b.first + len(b.local)) * each
}

// Range is the least and the greatest of the numbers that the processes bring.
func (b *Backend) Range(x int32) (least, greatest int32, err error) {
	if b.process.Alone() {
		return x, x, nil
	}
	numbers, err := PutRows(b, slices.Repeat([]int32{x}, len(b.local)), b.n)
	if err != nil {
		return 0, 0, err
	}
	all, err := Get[int32](numbers) // gathered
	if err := errors.Join(err, numbers.Free()); err != nil {
		return 0, 0, err
	}
	return slices.Min(all), slices.Max(all), nil
}

// Together returns err, or, where only others failed, that they did: so all processes go on, or none does.
func (b *Backend) Together(err error) error {
	failed := int32(0)
	if err != nil {
		failed = 1
	}
	_, any, together := b.Range(failed)
	if err == nil && any > 0 {
		together = errors.New("another process of the slice failed: its own message says why")
	}
	return errors.Join(err, together)
}

// Bound is ctx, or, beside other processes, one that nothing cancels: a process that leaves what all do together leaves
// the others waiting.
func (b *Backend) Bound(ctx context.Context) context.Context {
	if b.process.Alone() {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// gathered is a copy of an array of which each device holds the whole.
func (a *Array) gathered() (*Array, error) {
	b := a.backend
	b.gathering.Lock()
	defer b.gathering.Unlock()
	key := fmt.Sprint(a.shape, a.sharding)
	program := b.gatherers[key]
	if program == nil {
		var err error
		program, err = b.Compile(context.Background(), Function{
			Name: "gather", Inputs: []Value{{Name: "part", Shape: a.shape, Sharding: a.sharding}},
			Build: func(_ *graph.Graph, _, in []*graph.Node) (next, outputs []*graph.Node) {
				return nil, []*graph.Node{graph.Identity(in[0])}
			},
		})
		if err != nil {
			return nil, err
		}
		if b.gatherers == nil {
			b.gatherers = map[string]*Program{}
		}
		b.gatherers[key] = program
	}
	out, err := program.Run(nil, a)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// PutRows is Put of a batch of which data has only the rows of this process, see Rows. dims are those of the whole
// batch.
func PutRows[T dtypes.Supported](b *Backend, data []T, dims ...int) (*Array, error) {
	a := &Array{backend: b, shape: shapes.Make(dtypes.FromGenericsType[T](), dims...), sharding: Batch}
	part, err := b.shardShape(a.shape, Batch)
	if err != nil {
		return nil, err
	}
	size := part.Size()
	if len(data) != size*len(b.local) {
		return nil, fmt.Errorf("%d values for this process's part of %s, want %d",
			len(data), a.shape, size*len(b.local))
	}
	for i, device := range b.local {
		if err := a.add(device, bytesOf(data[i*size:(i+1)*size]), part); err != nil {
			return nil, err
		}
	}
	return a, nil
}
