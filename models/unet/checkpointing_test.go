package unet_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
)

// With gradient checkpointing the loss and the gradients are what they are without, and what lies between takes less
// memory.
func TestCheckpointing(t *testing.T) {
	c := unet.Default()
	c.BlockOutChannels, c.LayersPerBlock, c.NormNumGroups = []int{8}, 1, 4
	c.DownBlockTypes = []string{"CrossAttnDownBlock2D"}
	c.UpBlockTypes = []string{"CrossAttnUpBlock2D"}
	c.CrossAttentionDim, c.AttentionHeadDim = 8, unet.PerLevel{2}
	tree := c.Tree()
	rng := rand.New(rand.NewPCG(1, 1))
	normal := func(n int) []float32 {
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(rng.NormFloat64())
		}
		return data
	}
	const batch, side, tokens = 2, 16, 5
	inputs := []struct {
		data []float32
		dims []int
	}{
		{normal(batch * side * side * c.InChannels), []int{batch, side, side, c.InChannels}},
		{[]float32{3, 700}, []int{batch}}, {normal(batch * tokens * 8), []int{batch, tokens, 8}},
	}
	b := parity.Backend(t)
	values := nn.InitValues(tree, 1)
	results, memory := map[bool][][]float32{}, map[bool]int64{}
	for _, checkpointing := range []bool{false, true} {
		f := xla.Function{Name: "checkpointing", Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			params, in := in[:len(tree)], in[len(tree):]
			wrt := append(slices.Clone(params), in[0], in[2])
			p := nn.Bind(tree, params)
			if checkpointing {
				p = p.WithCheckpointing(wrt...)
			}
			loss := ReduceAllMean(Square(c.Forward(p, in[0], in[1], unet.Context{Text: in[2]}, nil)))
			return nil, append([]*Node{loss}, Gradient(loss, wrt...)...)
		}}
		var args []*xla.Array
		put := func(name string, data []float32, dims ...int) {
			a, err := xla.Put(b, data, xla.Replicated, dims...)
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, a)
			f.Inputs = append(f.Inputs, xla.Value{Name: name, Shape: shapes.Make(dtypes.Float32, dims...)})
		}
		for _, spec := range tree {
			put(spec.Key, values[spec.Key], spec.Shape...)
		}
		for i, in := range inputs {
			put(fmt.Sprint("input", i), in.data, in.dims...)
		}
		program, err := b.Compile(context.Background(), f)
		if err != nil {
			t.Fatal(err)
		}
		stats := program.Memory()
		memory[checkpointing] = stats.Temporaries
		out, err := program.Run(nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range out {
			data, err := xla.Get[float32](a)
			if err != nil {
				t.Fatal(err)
			}
			results[checkpointing] = append(results[checkpointing], data)
		}
	}
	if memory[true] > memory[false]*3/4 {
		t.Errorf("temporaries take %d bytes, without checkpointing %d: want at most three quarters",
			memory[true], memory[false])
	}
	t.Logf("temporaries: %d bytes, without checkpointing %d", memory[true], memory[false])
	for i, plain := range results[false] {
		var largest, off float64
		for j, want := range plain {
			largest = max(largest, math.Abs(float64(want)))
			off = max(off, math.Abs(float64(results[true][i][j]-want)))
		}
		if largest == 0 || off > 1e-5*largest {
			t.Errorf("result %d is off by %g of %g", i, off, largest)
		}
	}
}
