package unet_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
	"limner/xla/program"
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
	inputs := []xla.Value{
		{Name: "sample", Shape: shapes.Make(dtypes.Float32, batch, side, side, c.InChannels)},
		{Name: "timesteps", Shape: shapes.Make(dtypes.Float32, batch)},
		{Name: "text", Shape: shapes.Make(dtypes.Float32, batch, tokens, 8)},
	}
	contents := map[string][]float32{
		"sample": normal(inputs[0].Shape.Size()), "timesteps": {3, 700}, "text": normal(inputs[2].Shape.Size()),
	}
	b := parity.Backend(t)
	arrays := program.Arrays{}
	weights := checkpoint.InMemory(nn.InitValues(tree, 1))
	if err := arrays.Load(b, weights, tree, program.Parameters(tree, dtypes.Float32)); err != nil {
		t.Fatal(err)
	}
	for _, v := range inputs {
		var err error
		if arrays[v.Name], err = xla.Put(b, contents[v.Name], v.Sharding, v.Shape.Dimensions...); err != nil {
			t.Fatal(err)
		}
	}
	results, memory := map[bool]map[string][]float32{}, map[bool]int64{}
	for _, checkpointing := range []bool{false, true} {
		f := program.Function{
			Name: "checkpointing", Inputs: append(program.Parameters(tree, dtypes.Float32), inputs...),
		}
		f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
			sample, text := in.Get("sample"), in.Get("text")
			wrt := append(in.Of(tree), sample, text)
			p := nn.Bind(tree, in.Of(tree))
			if checkpointing {
				p = p.WithCheckpointing(wrt...)
			}
			loss := ReduceAllMean(Square(c.Forward(p, sample, in.Get("timesteps"), unet.Context{Text: text}, nil)))
			outputs = program.Nodes{"loss": loss}
			for i, gradient := range Gradient(loss, wrt...) {
				outputs[fmt.Sprint("gradient ", i)] = gradient
			}
			return nil, outputs
		}
		compiled, err := program.Compile(context.Background(), b, f)
		if err != nil {
			t.Fatal(err)
		}
		memory[checkpointing] = compiled.Memory().Temporaries
		out, err := compiled.Run(nil, arrays)
		if err != nil {
			t.Fatal(err)
		}
		results[checkpointing] = map[string][]float32{}
		for name, a := range out {
			if results[checkpointing][name], err = xla.Get[float32](a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if memory[true] > memory[false]*3/4 {
		t.Errorf("temporaries take %d bytes, without checkpointing %d: want at most three quarters",
			memory[true], memory[false])
	}
	t.Logf("temporaries: %d bytes, without checkpointing %d", memory[true], memory[false])
	for name, plain := range results[false] {
		var largest, off float64
		for j, want := range plain {
			largest = max(largest, math.Abs(float64(want)))
			off = max(off, math.Abs(float64(results[true][name][j]-want)))
		}
		if largest == 0 || off > 1e-5*largest {
			t.Errorf("%s is off by %g of %g", name, off, largest)
		}
	}
}
