package train

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/models/clip"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/unet"
	"limner/models/vae"
	"limner/xla"
)

// Networks are the parts of a Stable Diffusion model, and how they are computed. Their parameters stand in a run's trees
// below the names of their folders: unet, controlnet, vae, text_encoder.
type Networks struct {
	UNet       unet.Config
	ControlNet *controlnet.Config // nil trains the UNet
	VAE        vae.Config
	Text       clip.Config
	Noise      noise.Config
	Compute    dtypes.DType // of activations
}

// Sizes are the shapes of a diffusion batch.
type Sizes struct {
	Batch      int // images of a step, over all devices
	Resolution int // pixels of an image, each way
	Tokens     int // of a caption
}

// Diffusion is what the frozen and trainable networks need to know to make a loss of a batch.
type Diffusion struct {
	Networks
	Sizes
	Loss             Loss
	CachedLatents    bool // the batch brings the moments of the VAE instead of pixels
	TrainTextEncoder bool // with the UNet; never with a ControlNet
}

// Objective is the diffusion loss for the UNet, or for the ControlNet with the UNet frozen. Its batch is, in order:
// the images float32 [batch, resolution, resolution, 3] in [-1, 1] or, cached, the moments of their latents float32
// [batch, resolution/8, resolution/8, 2·latent_channels] (mean, then log variance); the token ids int32 [batch, tokens];
// and for a ControlNet the conditioning images float32 [batch, resolution, resolution, channels] in [0, 1].
func (d Diffusion) Objective() Objective {
	o := Objective{Name: "text_to_image", Compute: d.Compute}
	text := d.Text.Tree().Under("text_encoder")
	if d.ControlNet != nil {
		o.Name = "controlnet"
		o.Trainable = d.ControlNet.Tree().Under("controlnet")
		o.Frozen = append(d.UNet.Tree().Under("unet"), text...)
	} else {
		o.Trainable = d.UNet.Tree().Under("unet")
		if d.TrainTextEncoder {
			o.Trainable = append(o.Trainable, text...)
		} else {
			o.Frozen = text
		}
	}
	o.Batch = []xla.Value{batchValue("pixels", dtypes.Float32, d.Batch, d.Resolution, d.Resolution, 3)}
	if d.CachedLatents {
		side := d.Resolution / d.VAE.Scale()
		o.Batch[0] = batchValue("moments", dtypes.Float32, d.Batch, side, side, 2*d.VAE.LatentChannels)
	} else {
		o.Frozen = append(o.Frozen, d.VAE.EncoderTree().Under("vae")...)
	}
	o.Batch = append(o.Batch, batchValue("input_ids", dtypes.Int32, d.Batch, d.Tokens))
	if d.ControlNet != nil {
		o.Batch = append(o.Batch, batchValue("conditioning_pixel_values", dtypes.Float32, d.Batch, d.Resolution, d.Resolution, d.ControlNet.ConditioningChannels))
	}
	o.Loss = d.loss
	return o
}

func batchValue(name string, dtype dtypes.DType, dims ...int) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype, dims...), Sharding: xla.Batch}
}

func (d Diffusion) loss(trainable, frozen nn.Params, batch []*Node, draw Draws) *Node {
	var mean, logvar *Node
	if d.CachedLatents {
		c := d.VAE.LatentChannels
		mean = Slice(batch[0], AxisRange(), AxisRange(), AxisRange(), AxisRange(0, c))
		logvar = Slice(batch[0], AxisRange(), AxisRange(), AxisRange(), AxisRange(c))
	} else {
		mean, logvar = d.VAE.Encode(frozen.In("vae"), ConvertDType(batch[0], d.Compute))
		mean, logvar = ConvertDType(mean, dtypes.Float32), ConvertDType(logvar, dtypes.Float32)
	}
	shape := mean.Shape().Dimensions
	// A sample of the VAE's posterior: μ + σ·ε.
	latents := Add(mean, Mul(Exp(MulScalar(logvar, 0.5)), draw.normal(drawPosterior, shape...)))
	latents = MulScalar(latents, d.VAE.ScalingFactor)

	textParams := frozen
	if d.TrainTextEncoder {
		textParams = trainable
	}
	text := d.Text.Forward(textParams.In("text_encoder"), batch[1], d.Compute).LastHiddenState
	sample := d.Draw(draw, latents, text)
	if d.ControlNet != nil {
		sample.Cond = batch[2]
	}
	return d.LossOf(trainable, frozen, sample)
}

// Draw adds the noise and the timesteps of a step to scaled latents and text embeddings.
func (d Diffusion) Draw(draw Draws, latents, text *Node) Sample {
	dims := latents.Shape().Dimensions
	s := Sample{
		Latents: latents, Noise: draw.normal(drawNoise, dims...),
		Timesteps: d.Loss.Timesteps.draw(draw, d.Noise.NumTrainTimesteps, dims[0]),
		Text:      text,
	}
	if d.Loss.NoiseOffset > 0 {
		offset := draw.normal(drawOffset, dims[0], 1, 1, dims[3])
		s.Noise = Add(s.Noise, MulScalar(offset, d.Loss.NoiseOffset))
	}
	if d.Loss.InputPerturbation > 0 {
		s.InputNoise = Add(s.Noise, MulScalar(draw.normal(drawPerturbation, dims...), d.Loss.InputPerturbation))
	}
	return s
}

// Sample is a batch for which everything random has been drawn.
type Sample struct {
	Latents, Noise *Node // float32 [batch, height, width, latent_channels], the latents scaled
	InputNoise     *Node // that the latents get, of their shape; nil is Noise, which the target is made of
	Timesteps      *Node // int32 [batch]
	Mask           *Node // weights of the latents' pixels in the loss, float32 [batch, height, width, 1]; nil weighs all alike
	Text           *Node // [batch, tokens, cross_attention_dim] in the compute dtype
	Cond           *Node // float32 [batch, 8·height, 8·width, channels] in [0, 1]; nil without a ControlNet
}

// LossOf is the loss of the network's prediction for a sample, a float32 scalar.
func (d Diffusion) LossOf(trainable, frozen nn.Params, s Sample) *Node {
	added := s.InputNoise
	if added == nil {
		added = s.Noise
	}
	noisy := ConvertDType(d.Noise.Add(s.Latents, added, s.Timesteps), d.Compute)
	context := unet.Context{Text: s.Text}
	unetParams := trainable
	var residuals *unet.Residuals
	if d.ControlNet != nil {
		unetParams = frozen
		residuals = d.ControlNet.Forward(trainable.In("controlnet"), noisy, s.Timesteps, context, ConvertDType(s.Cond, d.Compute))
	}
	prediction := d.UNet.Forward(unetParams.In("unet"), noisy, s.Timesteps, context, residuals)
	target := d.Noise.Target(s.Latents, s.Noise, s.Timesteps)
	return ReduceAllMean(d.Loss.perImage(d.Noise, prediction, target, s.Timesteps, s.Mask))
}
