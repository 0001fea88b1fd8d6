package sample

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"limner/sample/schedule"
)

// Check reports everything about a shape that does not fit the model or the devices.
func (m Model) Check(s Shape, devices int) error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Batch < 1 {
		report("batch %d: want at least 1", s.Batch)
	} else if s.Batch%devices != 0 {
		report("batch %d does not divide over %d devices: use %d",
			s.Batch, devices, (s.Batch+devices-1)/devices*devices)
	}
	scale := m.Pipeline.VAE.Scale()
	for i, side := range []int{s.Height, s.Width} {
		if side < scale || side%scale != 0 {
			below := max(1, side/scale) * scale
			report("%s %d: want a multiple of %d pixels: the nearest are %d and %d",
				[]string{"height", "width"}[i], side, scale, below, below+scale)
		}
	}
	if n := m.Pipeline.VAE.OutChannels; n != 3 {
		report("the VAE's out_channels is %d, supported: 3", n)
	}
	for _, e := range m.encoders() {
		if have, want := e.Config.VocabSize, e.tokenizer.VocabSize(); have < want {
			report("%s: the tokenizer has %d tokens, vocab_size is %d", e.Name, want, have)
		}
	}
	latents := m.Pipeline.VAE.LatentChannels
	if u := m.Pipeline.UNet; u.OutChannels != latents || u.InChannels != latents && !m.inpaints() {
		report("the UNet has %d in_channels and %d out_channels, supported: %d and %d, or %d and %d for inpainting",
			u.InChannels, u.OutChannels, latents, latents, 2*latents+1, latents)
	}
	for i, c := range m.ControlNets {
		if err := c.CheckUNet(m.Pipeline.UNet); err != nil {
			report("ControlNet %d does not fit the model: %w", i+1, err)
		}
		if c.Stride() != scale {
			report("ControlNet %d has %d pixels for each latent, the VAE %d: "+
				"conditioning_embedding_out_channels has the wrong number of entries", i+1, c.Stride(), scale)
		}
	}
	return errors.Join(errs...)
}

// LeastMemory is the least that sampling a shape takes of each device, in bytes: a convolution's input and output at
// the full size of the latents in the UNet or, of whole images, at that of the image in the VAE's decoder. What is
// needed is several times as much.
func (m Model) LeastMemory(s Shape, devices int) int64 {
	scale := m.Pipeline.VAE.Scale()
	most := s.Batch / devices * (s.Height / scale) * (s.Width / scale) * m.Pipeline.UNet.BlockOutChannels[0]
	if !m.VAETiling {
		most = max(most, s.Height*s.Width*m.Pipeline.VAE.BlockOutChannels[0])
	}
	return 2 * int64(most) * int64(m.Compute.Size())
}

// check reports every field of a request that does not fit the pipeline. The schedule is the request's.
func (p *Pipeline) check(r Request, sched schedule.Schedule) error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n := len(r.Prompts)
	if n == 0 {
		return errors.New("no prompts: give one for each image")
	}
	if most := p.shape.Batch - 1; r.Row < 0 || r.Row > most || r.Row > 0 && n > 1 {
		report("row %d for %d images: want 0 to %d for one image, 0 for several", r.Row, n, most)
	}
	if k := len(r.NegativePrompts); k > 1 && k != n {
		report("%d negative prompts for %d images: give one for each, one for all, or none", k, n)
	}
	if s := r.GuidanceScale; math.IsNaN(s) || math.IsInf(s, 0) || s < 0 {
		report("guidance_scale %g: want a number of at least 0", s)
	}
	if s := r.GuidanceRescale; !(s >= 0 && s <= 1) {
		report("guidance_rescale %g: want 0 to 1", s)
	}
	if k := len(p.model.LoRAs); r.LoRAScales != nil && len(r.LoRAScales) != k {
		report("%d LoRA scales for %d LoRAs: give one for each", len(r.LoRAScales), k)
	}
	if want := n * p.latentSize(); r.Latents != nil && len(r.Latents) != want {
		report("%d values of latents, want %d: %d images of %d×%d×%d",
			len(r.Latents), want, n, p.latentHeight(), p.latentWidth(), p.channels())
	}
	// With latents, only what else is random needs seeds.
	random := r.Latents == nil || r.Images != nil ||
		slices.ContainsFunc(sched.Calls, func(c schedule.Call) bool { return c.Noise })
	if len(r.Seeds) != n && random && r.draws == nil {
		report("%d seeds for %d images: give one for each", len(r.Seeds), n)
	}
	return errors.Join(append(errs, p.model.Pipeline.CheckClipSkip(r.ClipSkip), p.checkImages(r), p.checkControl(r))...)
}

// checkImages reports what does not fit of the images to begin from.
func (p *Pipeline) checkImages(r Request) error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n, pixels := len(r.Prompts), p.shape.Height*p.shape.Width
	if k := len(r.Images); r.Images != nil && k != 3*pixels && k != 3*pixels*n {
		report("%d values of images, want %d, %d for each of %d images, or one for all", k, 3*pixels*n, 3*pixels, n)
	}
	if k := len(r.Masks); r.Masks != nil && k != pixels && k != pixels*n {
		report("%d values of masks, want %d, %d for each of %d images, or one for all", k, pixels*n, pixels, n)
	}
	switch nine := p.model.inpaints(); {
	case r.Masks != nil && r.Images == nil:
		report("masks without images to paint in")
	case nine && r.Masks == nil:
		report("the model is for inpainting (%d in_channels): give images and masks", p.model.Pipeline.UNet.InChannels)
	}
	if r.Images == nil && r.Strength < 1 {
		report("strength %g without images to begin from", r.Strength)
	}
	return errors.Join(errs...)
}

// checkControl reports what does not fit the ControlNets.
func (p *Pipeline) checkControl(r Request) error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	n, nets := len(r.Prompts), len(p.model.ControlNets)
	switch {
	case nets == 0 && r.Conditions != nil:
		report("conditioning images without a ControlNet")
	case len(r.Conditions) != nets:
		report("conditioning images for %d of %d ControlNets", len(r.Conditions), nets)
	default:
		for i, c := range r.Conditions {
			if one := p.conditionSize(i); len(c) != one && len(c) != n*one {
				report("%d values of conditioning images, want %d, %d for each of %d images, or one for all",
					len(c), n*one, one, n)
			}
		}
	}
	for _, field := range []struct {
		name   string
		values []float64
		most   float64
	}{
		{"controlnet_conditioning_scale", r.ControlNetConditioningScale, math.MaxFloat32},
		{"control_guidance_start", r.ControlGuidanceStart, 1},
		{"control_guidance_end", r.ControlGuidanceEnd, 1},
	} {
		if k := len(field.values); k != 0 && k != nets {
			report("%s: %d numbers for %d ControlNets: give one for each", field.name, k, nets)
		}
		for _, v := range field.values {
			if !(v >= 0 && v <= field.most) {
				want := "a number of at least 0"
				if field.most == 1 {
					want = "0 to 1"
				}
				report("%s %g: want %s", field.name, v, want)
			}
		}
	}
	for i := range min(len(r.ControlGuidanceStart), nets) {
		if start, end := r.ControlGuidanceStart[i], nth(r.ControlGuidanceEnd, i, 1); start >= end {
			report("control_guidance_start %g: want less than control_guidance_end %g", start, end)
		}
	}
	return errors.Join(errs...)
}
