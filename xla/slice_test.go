package xla_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"golang.org/x/sync/errgroup"

	"limner/xla"
	"limner/xla/pjrt"
)

// TestFindSlice finds a machine in its slice by what GKE and TPU VMs say.
func TestFindSlice(t *testing.T) {
	for name, c := range map[string]struct {
		env, metadata map[string]string
		want          xla.Process
	}{
		"nothing known": {want: xla.Process{Count: 1}},
		"gke": {
			env:  map[string]string{"TPU_WORKER_ID": "2", "TPU_WORKER_HOSTNAMES": "a-0.a,a-1.a,a-2.a,a-3.a"},
			want: xla.Process{Index: 2, Count: 4},
		},
		"tpu vm": {
			metadata: map[string]string{
				"agent-worker-number": "1", "worker-network-endpoints": "x:8470:10.0.0.1,y:8470:10.0.0.2",
			},
			want: xla.Process{Index: 1, Count: 2},
		},
		"v4-8": {
			metadata: map[string]string{"agent-worker-number": "0", "worker-network-endpoints": "x:8470:10.0.0.1"},
			want:     xla.Process{Count: 1},
		},
		"own chips": {
			env:  map[string]string{"TPU_PROCESS_BOUNDS": "1,1,1", "TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "a,b"},
			want: xla.Process{Count: 1},
		},
		"no number": {env: map[string]string{"TPU_WORKER_HOSTNAMES": "a,b"}, want: xla.Process{Count: 1}},
		"impossible": {
			env: map[string]string{"TPU_WORKER_ID": "7", "TPU_WORKER_HOSTNAMES": "a,b"}, want: xla.Process{Count: 1},
		},
	} {
		got := xla.FindSlice(func(key string) string { return c.env[key] }, func(key string) string {
			return c.metadata[key]
		})
		if got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// TestSeats places the eight devices of two machines whose numbers interleave, as those of a slice of 4×2 chips may.
func TestSeats(t *testing.T) {
	var devices []pjrt.Device
	for id := range 8 {
		local := -1
		if process := id / 2 % 2; process == 1 {
			local = 3 - id/4*2 - id%2 // whatever order the client has
		}
		devices = append(devices, pjrt.Device{ID: id, Process: id / 2 % 2, Local: local})
	}
	s, err := xla.TakeSeats(1, devices)
	if err != nil {
		t.Fatal(err)
	}
	order, local, first, p := s.Places()
	if want := []int{0, 1, 4, 5, 2, 3, 6, 7}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if want := []int{3, 2, 1, 0}; !slices.Equal(local, want) || first != 4 || p != (xla.Process{Index: 1, Count: 2}) {
		t.Errorf("local %v, first %d, %v, want %v, 4 and process 1 of 2", local, first, p, want)
	}
	if _, err := xla.TakeSeats(1, devices[:7]); err == nil || !strings.Contains(err.Error(), "process 0 has 4") {
		t.Errorf("got %v, want that the processes have not as many devices", err)
	}
}

// TestProcesses runs programs on two processes of two devices each: what each puts and gets is what one process of all
// four does.
func TestProcesses(t *testing.T) {
	whole, err := xla.Open(t.Context(), xla.Options{Devices: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { whole.Close() })
	processes := xla.Processes(whole, 2)
	var all errgroup.Group
	for _, b := range processes {
		all.Go(func() error { return proceed(t, b) })
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// proceed is one process of TestProcesses.
func proceed(t *testing.T, b *xla.Backend) error {
	index := b.Process().Index
	rows := []float32{0, 1, 2, 3, 4, 5, 6, 7}
	from, to := b.Rows(len(rows))
	if from != 4*index || to != from+4 {
		return fmt.Errorf("process %d: rows %d to %d", index, from, to)
	}
	state, err := xla.Put(b, []float32{10, 20, 30, 40, 50, 60, 70, 80}, xla.Along(1), 2, 4) // known to each
	if err != nil {
		return err
	}
	batch, err := xla.PutRows(b, rows[from:to], 8)
	if err != nil {
		return err
	}
	p, err := b.Compile(t.Context(), xla.Function{
		Name:   "add",
		State:  []xla.Value{{Name: "state", Shape: shapes.Make(dtypes.Float32, 2, 4), Sharding: xla.Along(1)}},
		Inputs: []xla.Value{{Name: "batch", Shape: shapes.Make(dtypes.Float32, 8), Sharding: xla.Batch}},
		Build: func(_ *Graph, state, in []*Node) (next, outputs []*Node) {
			sum := ReduceAllSum(in[0])
			return []*Node{Add(state[0], sum)}, []*Node{sum}
		},
	})
	if err != nil {
		return err
	}
	out, err := p.Run([]*xla.Array{state}, batch)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		array *xla.Array
		want  []float32
	}{{state, []float32{38, 48, 58, 68, 78, 88, 98, 108}}, {out[0], []float32{28}}, {batch, rows}} {
		if got, err := xla.Get[float32](c.array); err != nil || !slices.Equal(got, c.want) {
			return fmt.Errorf("process %d: got %v, %v, want %v", index, got, err, c.want)
		}
	}
	if least, greatest, err := b.Range(int32(5 - 2*index)); err != nil || least != 3 || greatest != 5 {
		return fmt.Errorf("process %d: numbers from %d to %d, %v, want 3 to 5", index, least, greatest, err)
	}
	broken := errors.New("broken")
	own := map[int]error{1: broken}[index]
	if err := b.Together(own); err == nil || errors.Is(err, broken) != (index == 1) {
		return fmt.Errorf("process %d: got %v of an error of process 1", index, err)
	}
	if err := b.Together(nil); err != nil {
		return err
	}
	if _, err := xla.PutRows(b, rows, 8); err == nil ||
		!strings.Contains(err.Error(), "8 values for this process's part") {
		return fmt.Errorf("process %d: got %v, want that these are too many rows", index, err)
	}
	return nil
}
