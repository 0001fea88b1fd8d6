package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
)

// published is the UNet of a published model: sd15, sd21 or sdxl.
func published(family string) unet.Config {
	p, err := diffusers.Family(family)
	if err != nil {
		panic(err)
	}
	return p.UNet
}

// startForward compiles a UNet for a batch of latents, with random weights.
func startForward(c unet.Config, batch, side int) func(context.Context, *xla.Backend) (workload, error) {
	const tokens = 77
	inputs := []xla.Value{
		{Name: "sample", Shape: shapes.Make(dtypes.Float32, batch, side, side, c.InChannels), Sharding: xla.Batch},
		{Name: "timesteps", Shape: shapes.Make(dtypes.Float32, batch), Sharding: xla.Batch},
		{Name: "text", Shape: shapes.Make(dtypes.Float32, batch, tokens, c.CrossAttentionDim), Sharding: xla.Batch},
	}
	if width := c.PooledDim(); width > 0 {
		inputs = append(inputs,
			xla.Value{Name: "pooled", Shape: shapes.Make(dtypes.Float32, batch, width), Sharding: xla.Batch},
			xla.Value{Name: "time_ids", Shape: shapes.Make(dtypes.Float32, batch, 6), Sharding: xla.Batch})
	}
	tree := c.Tree()
	f := xla.Function{Name: "unet_forward"}
	for _, spec := range tree {
		f.Inputs = append(f.Inputs, xla.Value{Name: spec.Key, Shape: shapes.Make(dtypes.Float32, spec.Shape...)})
	}
	f.Inputs = append(f.Inputs, inputs...)
	return func(ctx context.Context, b *xla.Backend) (workload, error) {
		f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
			params, in := nn.Bind(tree, in[:len(tree)]).WithKernels(nn.Kernels(b.Forward())), in[len(tree):]
			context := unet.Context{Text: in[2]}
			if len(in) > 3 {
				context.Pooled, context.TimeIDs = in[3], in[4]
			}
			return nil, []*Node{c.Forward(params, in[0], in[1], context, nil)}
		}
		return forward(ctx, b, f, tree, inputs)
	}
}

// forward compiles f, whose inputs are the tree's and then the given ones.
func forward(ctx context.Context, b *xla.Backend, f xla.Function, tree nn.Tree, inputs []xla.Value) (workload, error) {
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
	var batch []hostArray
	for _, in := range inputs {
		batch = append(batch, hostArray{normal(rng, in.Shape.Size()), in.Shape.Dimensions})
	}
	return workload{
		setup: setup{CompileWall: compiled.Wall, CompileCPU: compiled.CPU, Parameters: tree.Size()},
		step: func() error {
			arrays, err := put(b, batch...)
			if err != nil {
				return err
			}
			out, err := program.Run(nil, append(append([]*xla.Array{}, weights...), arrays...)...)
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
			for _, a := range append(arrays, out...) {
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
