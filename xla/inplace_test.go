package xla

import (
	"fmt"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// A product reads the matrix that lies in a state's array now, not what lay there at the first run: see Effort.cpu.
func TestProductsOfStateInPlace(t *testing.T) {
	b, err := Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct{ rows, in, out int }{{16, 64, 64}, {256, 128, 128}, {256, 512, 128}, {1024, 256, 64}} {
		t.Run(fmt.Sprintf("%d rows, %d to %d", c.rows, c.in, c.out), func(t *testing.T) {
			weights := Value{Name: "weights", Shape: shapes.Make(dtypes.Float32, c.in, c.out)}
			compile := func(f Function) *Program {
				p, err := b.Compile(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { p.Close() })
				return p
			}
			product := compile(Function{
				Name: "product", Inputs: []Value{weights, {Name: "x", Shape: shapes.Make(dtypes.Float32, c.rows, c.in)}},
				Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
					return nil, []*Node{ReduceAllMax(MatMul(in[1], in[0]))}
				},
			})
			update := compile(Function{
				Name: "update", State: []Value{weights},
				Build: func(_ *Graph, state, _ []*Node) (next, outputs []*Node) {
					return []*Node{AddScalar(state[0], 1)}, nil
				},
			})
			ones := make([]float32, c.rows*c.in)
			for i := range ones {
				ones[i] = 1
			}
			x, err := Put(b, ones, Replicated, c.rows, c.in)
			if err != nil {
				t.Fatal(err)
			}
			w, err := Put(b, make([]float32, c.in*c.out), Replicated, c.in, c.out)
			if err != nil {
				t.Fatal(err)
			}
			state := []*Array{w}
			for step := range 4 {
				out, err := product.Run(nil, state[0], x)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Get[float32](out[0])
				if err != nil {
					t.Fatal(err)
				}
				if want := float32(step * c.in); got[0] != want {
					t.Errorf("run %d: got %g, want %g", step+1, got[0], want)
				}
				if _, err := update.Run(state); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
