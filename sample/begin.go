package sample

import (
	"context"
	"errors"
	"fmt"
	"math"

	"limner/xla"
	"limner/xla/program"
)

// beginning is what a round starts from, on the host. All but the mask are like the latents of the batch.
type beginning struct {
	latents    []float32
	mask       []float32 // [batch, height/8, width/8]: 1 where the images are painted anew; nil without masks
	known      []float32 // of the images, with 9 channels of what stays of them
	knownNoise []float32 // nil with 9 channels
}

// begin makes noise of the latents, or the images noised to the first call. What diffusers draws of an image's latents
// is drawn here.
func (r *round) begin(ctx context.Context) (beginning, error) {
	noise := r.normals(purposeLatents)
	b := beginning{latents: combine(r.schedule.InitNoiseSigma, noise, 0, noise)}
	if r.request.Images == nil {
		return b, nil
	}
	images := r.rows(r.request.Images, 3*r.p.shape.Height*r.p.shape.Width)
	pixels, nine := r.p.shape.Height*r.p.shape.Width, r.p.model.inpaints()
	// Inpainting with strength 1 begins from noise alone; image to image never does.
	fromNoise := r.request.Masks != nil && r.request.Strength == 1
	if !fromNoise || !nine {
		clean, err := r.encodeImages(ctx, images, purposePosterior)
		if err != nil {
			return b, err
		}
		if first := r.schedule.Calls[0]; !fromNoise {
			b.latents = combine(first.Signal, clean, first.Sigma, noise)
		}
		if r.request.Masks != nil {
			b.known, b.knownNoise = clean, noise
		}
	}
	if r.request.Masks == nil {
		return b, nil
	}
	mask := r.rows(r.request.Masks, pixels)
	b.mask = r.latentMask(mask)
	if nine {
		b.knownNoise = nil
		masked := make([]float32, len(images))
		for i, v := range images {
			if mask[i/3] < 0.5 {
				masked[i] = v
			}
		}
		var err error
		b.known, err = r.encodeImages(ctx, masked, purposeMaskedPosterior)
		return b, err
	}
	return b, nil
}

// combine is a·x + b·y.
func combine(a float64, x []float32, b float64, y []float32) []float32 {
	out := make([]float32, len(x))
	for i := range out {
		out[i] = float32(a)*x[i] + float32(b)*y[i]
	}
	return out
}

// latentMask takes of a mask [batch, height, width] the values that nearest-neighbour interpolation takes, as 0 or 1.
func (r *round) latentMask(mask []float32) []float32 {
	scale := r.p.model.Pipeline.VAE.Scale()
	out := make([]float32, 0, len(mask)/scale/scale)
	for i := range r.p.shape.Batch {
		for y := range r.p.latentHeight() {
			for x := range r.p.latentWidth() {
				v := float32(0)
				if mask[(i*r.p.shape.Height+y*scale)*r.p.shape.Width+x*scale] >= 0.5 {
					v = 1
				}
				out = append(out, v)
			}
		}
	}
	return out
}

// encodeImages draws the latents of images [batch, height, width, 3] in [-1, 1], scaled as the UNet sees them.
func (r *round) encodeImages(ctx context.Context, images []float32, purpose uint64) (latents []float32, err error) {
	encoder, err := r.p.encodeProgram(ctx)
	if err != nil {
		return nil, err
	}
	latents = r.normals(purpose)
	devices, pixels, size := r.p.backend.Devices(), len(images)/r.p.shape.Batch, len(latents)/r.p.shape.Batch
	one := make([]float32, devices*pixels) // an image of each device
	for _, i := range r.deviceRows() {
		for device := range devices {
			copy(one[device*pixels:(device+1)*pixels], images[r.p.row(device, i)*pixels:])
		}
		mean, logvar, err := r.posteriors(encoder, one)
		if err != nil {
			return nil, err
		}
		for device := range devices {
			drawn := latents[r.p.row(device, i)*size:][:size]
			for j := range drawn {
				m, v := mean[device*size+j], logvar[device*size+j]
				drawn[j] = (m + float32(math.Exp(float64(v)/2))*drawn[j]) *
					float32(r.p.model.Pipeline.VAE.ScalingFactor)
			}
		}
	}
	return latents, nil
}

// posteriors are the mean and the log variance of the latents of an image of each device.
func (r *round) posteriors(encoder *program.Program, images []float32) (mean, logvar []float32, err error) {
	in, err := keep(r, images, xla.Batch, r.p.backend.Devices(), r.p.shape.Height, r.p.shape.Width, 3)
	if err != nil {
		return nil, nil, err
	}
	out, err := r.p.apply(encoder, program.Arrays{inputImages: in})
	if err != nil {
		return nil, nil, fmt.Errorf("encode images: %w", err)
	}
	r.keepAll(out)
	if mean, err = xla.Get[float32](out[outputMean]); err != nil {
		return nil, nil, err
	}
	if logvar, err = xla.Get[float32](out[outputLogvar]); err != nil {
		return nil, nil, err
	}
	if !finite(mean) || !finite(logvar) {
		return nil, nil, errors.New("the latents of the images to begin from are not finite numbers: " +
			"check the VAE's weights, or use f32")
	}
	return mean, logvar, nil
}
