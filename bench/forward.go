package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
	"limner/xla"
	"limner/xla/program"
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
	return func(ctx context.Context, b *xla.Backend) (workload, error) {
		f := program.Function{Name: "unet_forward", Inputs: append(program.Parameters(tree, dtypes.Float32), inputs...)}
		f.Build = func(in program.Nodes) (next, outputs program.Nodes) {
			context := unet.Context{Text: in.Get("text"), Pooled: in["pooled"], TimeIDs: in["time_ids"]}
			params := program.BindForward(b, tree, in)
			prediction := c.Forward(params, in.Get("sample"), in.Get("timesteps"), context, nil)
			return nil, program.Nodes{predicted: prediction}
		}
		return forward(ctx, b, f, tree, inputs)
	}
}

// predicted is the output of a forward pass.
const predicted = "prediction"

// forward compiles f, whose inputs are the tree's and then the given ones.
func forward(ctx context.Context, b *xla.Backend, f program.Function, tree nn.Tree,
	inputs []xla.Value) (workload, error) {
	var unet *program.Program
	compiled, err := measure(func() (err error) {
		unet, err = program.Compile(ctx, b, f)
		return err
	})
	if err != nil {
		return workload{}, err
	}
	weights, err := randomWeights(b, tree)
	if err != nil {
		return workload{}, err
	}
	batch := drawBatch(b, inputs, 0)
	return workload{
		setup: setup{CompileWall: compiled.Wall, CompileCPU: compiled.CPU, Parameters: tree.Size()},
		step: func() error {
			arrays, err := batch()
			if err != nil {
				return err
			}
			out, err := unet.Run(nil, arrays, weights)
			if err != nil {
				return err
			}
			prediction, err := xla.Get[float32](out[predicted])
			if err != nil {
				return err
			}
			for i, x := range prediction {
				if x-x != 0 { // NaN or infinite
					return fmt.Errorf("output %d is %g", i, x)
				}
			}
			return errors.Join(arrays.Free(), out.Free())
		},
	}, nil
}

// randomWeights draws the weights one tensor at a time, so that no second copy of them raises the peak.
func randomWeights(b *xla.Backend, tree nn.Tree) (program.Arrays, error) {
	weights := program.Arrays{}
	for i := range tree {
		one := tree[i : i+1]
		source := checkpoint.InMemory(nn.InitValues(one, 0))
		if err := weights.Load(b, source, one, program.Parameters(one, dtypes.Float32)); err != nil {
			return nil, err
		}
	}
	return weights, nil
}
