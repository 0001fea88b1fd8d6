package main

import (
	"context"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/controlnet"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/sd"
	"limner/models/vae"
	"limner/train/loss"
	"limner/train/optim"
	"limner/train/step"
	"limner/xla"
)

// The batch of a ControlNet's training step: that of peer.py.
const (
	controlBatch = 4
	controlSide  = 256 // pixels
	controlText  = 256 // width of the text encoder
)

// controlDiffusion is the loss of a ControlNet of middling size, with the UNet, the VAE and the text encoder frozen.
func controlDiffusion(cached bool) loss.Diffusion {
	u := middlingUNet(controlText)
	control := controlnet.FromUNet(u, nil)
	v, text, schedule := vae.Default(), clip.Default(), noise.StableDiffusion()
	v.BlockOutChannels = []int{64, 128, 256, 256}
	v.DownBlockTypes = []string{"DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"}
	v.UpBlockTypes = []string{"UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"}
	v.LayersPerBlock = 2
	text.HiddenSize, text.IntermediateSize = controlText, 4*controlText
	text.NumHiddenLayers, text.NumAttentionHeads = 6, 4
	return loss.Diffusion{
		Networks: sd.Networks{UNet: u, VAE: v, Text: text, Noise: schedule}, ControlNet: &control,
		Compute: dtypes.Float32, Sizes: loss.Sizes{
			Batch: controlBatch, Resolution: controlSide, Tokens: text.MaxPositionEmbeddings,
		},
		Name: "controlnet", Train: []string{diffusers.ControlNet + "."}, CachedLatents: cached,
	}
}

// startControlStep compiles the whole step of train controlnet: pixels or, cached, the moments of their latents,
// captions and conditions in, the ControlNet's parameters and moments replaced.
func startControlStep(cached bool) func(context.Context, *xla.Backend) (workload, error) {
	return func(ctx context.Context, b *xla.Backend) (workload, error) {
		d := controlDiffusion(cached)
		objective := d.Objective()
		var trained *step.Alone
		// The time includes making and loading the parameters, the peer's does not.
		compiled, err := measure(func() (err error) {
			trained, err = step.CompileAlone(ctx, b, objective, optim.DefaultOptimizer(), 0, func() nn.Source {
				return checkpoint.InMemory(nn.InitValues(slices.Concat(objective.Trainable, objective.FrozenTree()), 0))
			})
			return err
		})
		if err != nil {
			return workload{}, err
		}
		batch := drawBatch(b, d.Inputs(), d.Text.VocabSize)
		n := 0
		return workload{
			setup: setup{CompileWall: compiled.Wall, CompileCPU: compiled.CPU, Parameters: objective.Trainable.Size()},
			step: func() error {
				n++
				arrays, err := batch()
				if err != nil {
					return err
				}
				_, _, err = trained.Run(ctx, arrays, n, 1e-5) // fails if the loss is not finite
				return err
			},
		}, nil
	}
}
