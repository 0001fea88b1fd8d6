package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"

	"limner/controlnet"
	"limner/data/imaging"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
	"limner/sample"
	"limner/xla"
)

// tinyModel is the model whose tokenizer and text encoder every sampling case uses, and the tiny case all of it.
const tinyModel = "testdata/goldens/sd15-tiny"

// samplePrompt is that of the peers' scripts.
const samplePrompt = "a red circle with a blue background"

// sampler is the model and the settings that a case samples with.
type sampler struct {
	sample.Model
	scheduler string
}

// tinySampler opens the tiny model with its ControlNet.
func tinySampler() (s sampler, err error) {
	p, err := diffusers.Open(tinyModel)
	if err != nil {
		return s, err
	}
	dir := tinyModel + "/controlnet"
	config, err := diffusers.ReadControlNet(dir, nil)
	if err != nil {
		return s, err
	}
	weights, err := p.Weights(p.Components()...)
	if err != nil {
		return s, err
	}
	if err := weights.Open(diffusers.ControlNet, dir, config.Tree()); err != nil {
		return s, err
	}
	return sampler{sample.Model{Pipeline: p, ControlNets: []controlnet.Config{config}, Weights: weights}, "ddim"}, nil
}

// middlingSampler makes networks of middling size with random weights.
func middlingSampler() (sampler, error) {
	s, err := tinySampler()
	if err == nil {
		s.Pipeline.UNet = middlingUNet(s.Pipeline.UNet.CrossAttentionDim)
		s.Pipeline.VAE.BlockOutChannels = []int{16, 32, 32, 32}
		s.ControlNets[0], s.Weights = controlnet.FromUNet(s.Pipeline.UNet, nil), drawn{s.Weights}
	}
	return s, err
}

// fullSampler opens the model of Stable Diffusion 1.5's size in bench/out.
func fullSampler() (s sampler, err error) {
	dir, err := writeModel("sd15")
	if err != nil {
		return s, err
	}
	p, err := diffusers.Open(dir)
	if err != nil {
		return s, err
	}
	weights, err := p.Weights(p.Components()...)
	return sampler{sample.Model{Pipeline: p, Weights: weights}, "euler"}, err
}

// drawn is a source of random values, one parameter at a time, so that this process holds no copy beside the devices'.
// The text encoder's values come from its file.
type drawn struct {
	file nn.Source
}

func (d drawn) Stream(tree nn.Tree, dtype string, visit nn.Visit) error {
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

// middlingUNet is in size between the tiny UNet and Stable Diffusion's.
func middlingUNet(textWidth int) unet.Config {
	c := unet.Default()
	c.SampleSize, c.BlockOutChannels, c.CrossAttentionDim = 32, []int{128, 256, 512, 512}, textWidth
	return c
}

// startSample compiles the pipeline for one image. A step is all of it: encoding prompts, the denoising steps with
// guidance and with a ControlNet if the model has one, and decoding the image.
func startSample(open func() (sampler, error), side, steps int) func(context.Context, *xla.Backend) (workload, error) {
	return func(ctx context.Context, b *xla.Backend) (workload, error) {
		m, err := open()
		if err != nil {
			return workload{}, err
		}
		r := sample.DefaultRequest()
		r.Scheduler, r.NumInferenceSteps = m.scheduler, steps
		r.Prompts, r.NegativePrompts = []string{samplePrompt}, []string{"blurry"}
		r.Seeds = []uint64{1}
		parameters := m.Pipeline.UNet.Tree().Size()
		rng := rand.New(rand.NewPCG(1, 1))
		for _, c := range m.ControlNets {
			condition := make([]float32, side*side*3)
			for i := range condition {
				condition[i] = rng.Float32()
			}
			r.Conditions = append(r.Conditions, condition)
			parameters += c.Tree().Size()
		}
		var p *sample.Pipeline
		compiled, err := measure(func() (err error) {
			p, err = sample.New(ctx, b, m.Model, sample.Shape{Batch: 1, Height: side, Width: side}, r)
			return err
		})
		if err != nil {
			return workload{}, err
		}
		return workload{
			setup: setup{CompileWall: compiled.Wall, CompileCPU: compiled.CPU, Parameters: parameters},
			step: func() error {
				result, err := p.Sample(ctx, r)
				if err != nil {
					return err
				}
				_, pngErr := imaging.EncodePNG(result.Images[0])
				return errors.Join(result.Err(), pngErr)
			},
		}, nil
	}
}
