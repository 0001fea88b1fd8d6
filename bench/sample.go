package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"

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
	dir := tinyModel + "/controlnet"
	config, err := diffusers.ReadControlNet(dir)
	if err != nil {
		return sample.Model{}, err
	}
	weights, err := p.Weights(p.Components()...)
	if err != nil {
		return sample.Model{}, err
	}
	if err := weights.Open(diffusers.ControlNet, dir, config.Tree()); err != nil {
		return sample.Model{}, err
	}
	m := sample.Model{Pipeline: p, ControlNets: []controlnet.Config{config}, Weights: weights}
	if middling {
		p.UNet = middlingUNet(p.UNet.CrossAttentionDim)
		p.VAE.BlockOutChannels = []int{16, 32, 32, 32}
		m.ControlNets[0], m.Weights = controlnet.FromUNet(p.UNet, nil), drawn{weights}
	}
	return m, nil
}

// drawn gives random values one parameter at a time, so that this process holds none beside the devices', and the text encoder's
// from its file.
type drawn struct {
	file nn.Source
}

func (d drawn) Stream(tree nn.Tree, dtype string, visit func(nn.Spec, []byte) error) error {
	for _, spec := range tree {
		one, from := nn.Tree{spec}, d.file
		if !strings.HasPrefix(spec.Key, diffusers.TextEncoder+".") {
			from = checkpoint.InMemory(nn.InitValues(one, 1))
		}
		if err := from.Stream(one, dtype, visit); err != nil {
			return err
		}
	}
	return nil
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
