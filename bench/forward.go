package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
)

// startForward compiles the UNet of Stable Diffusion 1.5 for one 16×16 latent, with random weights.
func startForward(ctx context.Context, b *xla.Backend) (workload, error) {
	c := unet.Default()
	c.CrossAttentionDim = 768
	tree := c.Tree()
	const side, tokens = 16, 77
	f := xla.Function{Name: "sd15_unet_forward", Build: func(_ *Graph, _, inputs []*Node) (next, outputs []*Node) {
		n := len(tree)
		return nil, []*Node{c.Forward(nn.Bind(tree, inputs[:n]), inputs[n], inputs[n+1], unet.Context{Text: inputs[n+2]}, nil)}
	}}
	for _, spec := range tree {
		f.Inputs = append(f.Inputs, xla.Value{Name: spec.Key, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
	}
	f.Inputs = append(f.Inputs,
		xla.Value{Name: "sample", Shape: shapes.Make(dtypes.Float32, 1, side, side, c.InChannels), Sharding: xla.Batch},
		xla.Value{Name: "timesteps", Shape: shapes.Make(dtypes.Int32, 1), Sharding: xla.Batch},
		xla.Value{Name: "text", Shape: shapes.Make(dtypes.Float32, 1, tokens, c.CrossAttentionDim), Sharding: xla.Batch})
	var program *xla.Program
	compiled, err := measure(func() (err error) {
		program, err = b.Compile(ctx, f)
		return err
	})
	if err != nil {
		return workload{}, err
	}
	weights, err := randomWeights(b, tree)
	if err != nil {
		return workload{}, err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	sample, text := normal(rng, side*side*c.InChannels), normal(rng, tokens*c.CrossAttentionDim)
	return workload{
		setup: setup{CompileWall: compiled.Wall, CompileCPU: compiled.CPU, Parameters: tree.Size()},
		step: func() error {
			batch, err := put(b, hostArray{sample, []int{1, side, side, c.InChannels}}, hostArray{text, []int{1, tokens, c.CrossAttentionDim}})
			if err != nil {
				return err
			}
			timesteps, err := xla.Put(b, []int32{500}, xla.Batch, 1)
			if err != nil {
				return err
			}
			out, err := program.Run(nil, append(append([]*xla.Array{}, weights...), batch[0], timesteps, batch[1])...)
			if err != nil {
				return err
			}
			prediction, err := xla.Get[float32](out[0])
			if err != nil {
				return err
			}
			for i, x := range prediction {
				if x-x != 0 { // NaN or infinite
					return fmt.Errorf("output %d is %g", i, x)
				}
			}
			for _, a := range append(append(batch, timesteps), out...) {
				if err := a.Free(); err != nil {
					return err
				}
			}
			return nil
		},
	}, nil
}

// randomWeights draws the weights one tensor at a time, so that no second copy of them raises the peak.
func randomWeights(b *xla.Backend, tree nn.Tree) ([]*xla.Array, error) {
	weights := make([]*xla.Array, len(tree))
	for i := range tree {
		values := nn.InitValues(tree[i:i+1], 0)
		var err error
		if weights[i], err = xla.Put(b, values[tree[i].Key], xla.Replicated, tree[i].Shape...); err != nil {
			return nil, err
		}
	}
	return weights, nil
}
