package main

import (
	"context"
	"math/rand/v2"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/sd"
	"limner/models/unet"
	"limner/train/loss"
	"limner/train/optim"
	"limner/train/step"
	"limner/xla"
	"limner/xla/program"
)

// The training batch: that of peer.py.
const (
	trainBatch     = 4
	trainSide      = 32
	trainTokens    = 77
	trainTextWidth = 64
)

// smallUNet has 4.4 M parameters.
func smallUNet() unet.Config {
	c := unet.Default()
	c.SampleSize, c.BlockOutChannels, c.CrossAttentionDim = trainSide, []int{64, 128}, trainTextWidth
	c.DownBlockTypes = []string{"CrossAttnDownBlock2D", "DownBlock2D"}
	c.UpBlockTypes = []string{"UpBlock2D", "CrossAttnUpBlock2D"}
	return c
}

// trainObjective is the ε loss of a UNet on latents and text embeddings; noise and timesteps are drawn on the device.
// Its batch is latents and text embeddings.
func trainObjective(c unet.Config) loss.Objective {
	diffusion := loss.Diffusion{Networks: sd.Networks{UNet: c, Noise: noise.StableDiffusion()}, Compute: dtypes.Float32}
	return loss.Objective{
		Name:      "bench",
		Trainable: c.Tree().Under("unet"),
		Batch: []xla.Value{
			{Name: "latents", Shape: shapes.Make(dtypes.Float32, trainBatch, trainSide, trainSide, c.InChannels),
				Sharding: xla.Batch},
			{Name: "text", Shape: shapes.Make(dtypes.Float32, trainBatch, trainTokens, trainTextWidth),
				Sharding: xla.Batch},
		},
		Loss: func(trainable, frozen nn.Params, batch program.Nodes, draw loss.Draws) *Node {
			return diffusion.LossOf(trainable, frozen, diffusion.Draw(draw, batch.Get("latents"), batch.Get("text")))
		},
	}
}

// startTrainStep compiles the real training step: forward, backward, clipping by global norm and AdamW.
func startTrainStep(ctx context.Context, b *xla.Backend) (workload, error) {
	c := smallUNet()
	objective := trainObjective(c)
	var trained *step.Alone
	compiled, err := measure(func() (err error) {
		trained, err = step.CompileAlone(ctx, b, objective, optim.DefaultOptimizer(), 0, func() nn.Source {
			return checkpoint.InMemory(nn.InitValues(objective.Trainable, 0))
		})
		return err
	})
	if err != nil {
		return workload{}, err
	}
	stats := trained.Program().Memory()
	batch := drawBatch(b, objective.Batch, 0)
	n := 0
	parameters := objective.Trainable.Size()
	const group = 3 * 4 // a parameter and its two moments, in float32
	return workload{
		setup: setup{
			CompileWall: compiled.Wall, CompileCPU: compiled.CPU, Parameters: parameters,
			StateBytes: group * int64(parameters), AliasBytes: stats.Aliases,
		},
		step: func() error {
			n++
			arrays, err := batch()
			if err != nil {
				return err
			}
			_, _, err = trained.Run(ctx, arrays, n, 1e-4) // fails if the loss is not finite
			return err
		},
	}, nil
}

// drawBatch draws the inputs of a batch, ids below vocabulary among them, and returns what puts them on the device.
func drawBatch(b *xla.Backend, inputs []xla.Value, vocabulary int) func() (program.Arrays, error) {
	rng := rand.New(rand.NewPCG(1, 1))
	put := map[string]func() (*xla.Array, error){}
	for _, in := range inputs {
		if in.Shape.DType == dtypes.Int32 {
			ids := make([]int32, in.Shape.Size())
			for i := range ids {
				ids[i] = int32(rng.IntN(vocabulary))
			}
			put[in.Name] = func() (*xla.Array, error) { return xla.Put(b, ids, xla.Batch, in.Shape.Dimensions...) }
			continue
		}
		values := normal(rng, in.Shape.Size())
		put[in.Name] = func() (*xla.Array, error) { return xla.Put(b, values, xla.Batch, in.Shape.Dimensions...) }
	}
	return func() (program.Arrays, error) {
		batch := program.Arrays{}
		for name, one := range put {
			a, err := one()
			if err != nil {
				return nil, err
			}
			batch[name] = a
		}
		return batch, nil
	}
}

func normal(rng *rand.Rand, n int) []float32 {
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(rng.NormFloat64())
	}
	return data
}
