package train

import (
	"context"
	"maps"
	"strings"

	"limner/data"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/sample"
	"limner/train/latents"
	"limner/train/loss"
	"limner/train/watch"
	"limner/xla"
	"limner/xla/program"
)

// drawing is what validation draws with: the networks as they are on the devices, and from weights what training does
// without, such as the VAE's decoder.
func (r Recipe) drawing(model *diffusers.Pipeline, d loss.Diffusion,
	weights nn.Source) func(program.Arrays) sample.Model {
	return func(resident program.Arrays) sample.Model {
		m := sample.Model{
			Pipeline: model, Weights: weights, Compute: r.Compute, Resident: resident, Added: d.TokenRows(),
		}
		if d.ControlNet != nil {
			m.ControlNets = append(m.ControlNets, *d.ControlNet)
		}
		if d.LoRA != nil {
			m.Resident = maps.Clone(resident)
			lora := trainedLoRA(*d.LoRA, d.Tree(), m.Resident)
			m.LoRAs = append(m.LoRAs, lora)
		}
		return m
	}
}

// trainedLoRA describes a LoRA in training as sampling knows LoRAs, and adds its matrices to the resident parameters.
func trainedLoRA(l loss.LoRA, networks nn.Tree, resident program.Arrays) *diffusers.LoRA {
	out := &diffusers.LoRA{}
	for _, layer := range l.Layers(networks) {
		a, b := l.Matrices(layer)
		component := diffusers.UNet
		for _, name := range []string{diffusers.TextEncoder, diffusers.TextEncoder2} {
			if strings.HasPrefix(layer.Key, name+".") {
				component = name
			}
		}
		down, up := sample.LoRAKeys(0, layer.Key)
		resident[down], resident[up] = resident[a.Key], resident[b.Key]
		out.Layers = append(out.Layers, diffusers.LoRALayer{
			Component: component, Path: layer.Key, DownShape: a.Shape, UpShape: b.Shape,
			Scale: l.Alpha / float64(l.Rank),
		})
	}
	return out
}

// held measures the validation loss on the rows of a dataset; nil measures none. They are fed as those of training are,
// without dropout, augmentation or images of the class.
func (r Recipe) held(ctx context.Context, b *xla.Backend, o Options, feed DiffusionFeed, weights nn.Source,
	dataset *data.Dataset) (*watch.Held, error) {
	if dataset == nil {
		return nil, nil
	}
	feed.Dropout = 0
	if r.CacheLatents {
		encoder := latents.Encoder{
			Backend: b, VAE: feed.Diffusion.VAE, Weights: weights, Resolution: r.Resolution, Batch: o.Batch,
			CacheDir: r.CacheDir, Progress: r.OnEncode,
		}
		var err error
		if feed.Moments, err = Encode(ctx, encoder, dataset); err != nil {
			return nil, err
		}
	}
	d := feed.Diffusion
	d.PriorRows = 0
	if d.LoRA != nil {
		lora := *d.LoRA
		lora.Dropout = 0
		d.LoRA = &lora
	}
	return &watch.Held{Dataset: dataset, Feed: feed.Put, Loss: d.BatchLoss, Timesteps: d.Noise.NumTrainTimesteps}, nil
}
