package main

import (
	"context"
	"errors"
	"math/rand/v2"

	"limner/controlnet"
	"limner/data"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
	"limner/sample"
	"limner/xla"
)

// tinyModel lends every sampling case its tokenizer and text encoder, and the tiny one all the rest.
const tinyModel = "testdata/goldens/sd15-tiny"

// The request of the sampling cases: that of the peers' scripts.
const (
	samplePrompt = "a red circle with a blue background"
	sampleSteps  = 20
)

// sampleModel opens the tiny model with its ControlNet or, of middling size, makes networks with random weights.
func sampleModel(middling bool) (sample.Model, error) {
	p, err := diffusers.Open(tinyModel)
	if err != nil {
		return sample.Model{}, err
	}
	config, control, err := diffusers.OpenControlNet(tinyModel + "/controlnet")
	if err != nil {
		return sample.Model{}, err
	}
	values, err := p.Load(p.Components()...)
	if err != nil {
		return sample.Model{}, err
	}
	if middling {
		c := middlingUNet(p.UNet.CrossAttentionDim)
		p.UNet, config = c, controlnet.FromUNet(c, nil)
		p.VAE.BlockOutChannels = []int{16, 32, 32, 32}
		values = nn.Merge(values, nn.InitValues(c.Tree(), 1).Under(diffusers.UNet), nn.InitValues(p.VAE.Tree(), 1).Under(diffusers.VAE))
		control = nn.InitValues(config.Tree(), 2).Under(diffusers.ControlNet)
	}
	return sample.Model{Pipeline: p, ControlNets: []controlnet.Config{config}, Weights: checkpoint.InMemory(nn.Merge(values, control))}, nil
}

// middlingUNet is between the tiny one and that of Stable Diffusion.
func middlingUNet(textWidth int) unet.Config {
	c := unet.Default()
	c.SampleSize, c.BlockOutChannels, c.CrossAttentionDim = 32, []int{128, 256, 512, 512}, textWidth
	return c
}

// startSample compiles the pipeline for one image. A step is the whole of it: prompts, 20 DDIM steps with guidance and a ControlNet,
// and the image.
func startSample(middling bool, side int) func(context.Context, *xla.Backend) (workload, error) {
	return func(ctx context.Context, b *xla.Backend) (workload, error) {
		m, err := sampleModel(middling)
		if err != nil {
			return workload{}, err
		}
		rng := rand.New(rand.NewPCG(1, 1))
		condition := make([]float32, side*side*3)
		for i := range condition {
			condition[i] = rng.Float32()
		}
		r := sample.DefaultRequest()
		r.Scheduler, r.NumInferenceSteps, r.Prompts, r.NegativePrompts = "ddim", sampleSteps, []string{samplePrompt}, []string{"blurry"}
		r.Conditions, r.Seeds = [][]float32{condition}, []uint64{1}
		var p *sample.Pipeline
		compiled, err := measure(func() (err error) {
			p, err = sample.New(ctx, b, m, sample.Shape{Batch: 1, Height: side, Width: side}, r)
			return err
		})
		if err != nil {
			return workload{}, err
		}
		return workload{
			setup: setup{CompileWall: compiled.Wall, CompileCPU: compiled.CPU, Parameters: m.Pipeline.UNet.Tree().Size() + m.ControlNets[0].Tree().Size()},
			step: func() error {
				result, err := p.Sample(ctx, r)
				if err != nil {
					return err
				}
				_, pngErr := data.EncodePNG(result.Images[0])
				return errors.Join(result.Err(), pngErr)
			},
		}, nil
	}
}
