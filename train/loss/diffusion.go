package loss

import (
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/models/nn"
	"limner/models/sd"
	"limner/models/unet"
	"limner/xla"
	"limner/xla/program"
)

// Sizes are the shapes of a diffusion batch.
type Sizes struct {
	Batch      int // images of a step, over all devices
	Resolution int // pixels of an image, each way
	Tokens     int // of a caption
}

// Diffusion is the loss of a batch by a model's networks, and what of them is trained. Their parameters stand in a
// run's trees below their places of package sd.
type Diffusion struct {
	sd.Networks
	ControlNet *controlnet.Config // nil: the UNet alone
	Compute    dtypes.DType       // of activations
	Sizes
	Name   string   // of the objective
	Train  []string // what the keys of trained parameters begin with
	LoRA   *LoRA    // matrices beside the networks' layers, below "lora"; nil: none
	Tokens []Token  // embeddings of new tokens, below "learned_embeds"
	Loss   Loss
	Control
	CachedLatents bool    // the feed gives the moments of the VAE instead of pixels
	Masked        bool    // the batch brings masks: the loss counts where they are bright
	PriorRows     int     // rows at the end of each batch that are of the class, for prior preservation
	PriorWeight   float64 // of their loss beside that of the others
}

// Control says how a ControlNet in training reaches the UNet: flags of limner train controlnet.
type Control struct {
	OnlyMidControl bool `json:"only_mid_control" help:"Control the UNet through its middle block alone." resume:"same"`
}

// Tree lists every parameter that the loss reads. The VAE's encoder works ahead of it.
func (d Diffusion) Tree() nn.Tree {
	var tree nn.Tree
	if d.ControlNet != nil {
		tree = d.ControlNet.Tree().Under(sd.ControlNet)
	}
	tree = append(tree, d.UNet.Tree().Under(sd.UNet)...)
	for _, e := range d.TextEncoders() {
		tree = append(tree, d.TokenRows().Tree(e)...)
	}
	if d.LoRA != nil {
		tree = append(tree, d.LoRA.Tree(tree)...)
	}
	return append(tree, TokenTree(d.Tokens, d.TextEncoders())...)
}

// trains says whether a parameter is trained.
func (d Diffusion) trains(key string) bool {
	return slices.ContainsFunc(d.Train, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// Objective is the diffusion loss of a batch. The feed provides Inputs.
func (d Diffusion) Objective() Objective {
	o := Objective{Name: d.Name, Compute: d.Compute, Batch: d.inputs(), Loss: d.BatchLoss}
	if !d.CachedLatents {
		build := func(frozen nn.Params, pixels *Node) *Node {
			return sd.Moments(d.VAE, frozen, ConvertDType(pixels, d.Compute))
		}
		o.Ahead = &Ahead{Input: d.Inputs()[0], Frozen: d.VAE.EncoderTree().Under(sd.VAE), Build: build}
	}
	for _, spec := range d.Tree() {
		if d.trains(spec.Key) {
			o.Trainable = append(o.Trainable, spec)
		} else {
			o.Frozen = append(o.Frozen, spec)
		}
	}
	return o
}

// The names of a batch's inputs.
const (
	InputPixels    = "pixels"
	InputMoments   = "moments"
	InputTokens    = "input_ids"
	InputTokens2   = "input_ids_2"
	InputTimeIDs   = "time_ids"
	InputCondition = "conditioning_pixel_values"
	InputMask      = "masks"
)

// Inputs describes the arrays of a batch, in order: the images float32 [batch, resolution, resolution, 3] in [-1, 1]
// or, cached, the moments of their latents float32 [batch, resolution/8, resolution/8, 2·latent_channels] (mean, then
// log variance); the token ids int32 [batch, tokens]; of SDXL those for its second text encoder, and the time ids
// float32 [batch, 6]; for a ControlNet the conditioning images float32 [batch, resolution, resolution, channels] in [0,
// 1]; and the masks float32 [batch, resolution, resolution, 1] in [0, 1].
func (d Diffusion) Inputs() []xla.Value {
	values := d.inputs()
	if !d.CachedLatents {
		values[0] = BatchValue(InputPixels, dtypes.Float32, d.Batch, d.Resolution, d.Resolution, 3)
	}
	return values
}

// inputs are those of the loss.
func (d Diffusion) inputs() []xla.Value {
	side := d.Resolution / d.VAE.Scale()
	moments := BatchValue(InputMoments, dtypes.Float32, d.Batch, side, side, 2*d.VAE.LatentChannels)
	values := []xla.Value{moments, BatchValue(InputTokens, dtypes.Int32, d.Batch, d.Sizes.Tokens)}
	if d.XL() {
		values = append(values,
			BatchValue(InputTokens2, dtypes.Int32, d.Batch, d.Sizes.Tokens),
			BatchValue(InputTimeIDs, dtypes.Float32, d.Batch, unet.TimeIDs))
	}
	if d.ControlNet != nil {
		channels := d.ControlNet.ConditioningChannels
		values = append(values, BatchValue(InputCondition, dtypes.Float32, d.Batch, d.Resolution,
			d.Resolution, channels))
	}
	if d.Masked {
		values = append(values, BatchValue(InputMask, dtypes.Float32, d.Batch, d.Resolution, d.Resolution, 1))
	}
	return values
}

func BatchValue(name string, dtype dtypes.DType, dims ...int) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype, dims...), Sharding: xla.Batch}
}

// Params are the parameters of all networks in one place, with the LoRA's matrices at their layers and the new tokens'
// rows in the tables of embeddings. draw is for dropout; nil goes without.
func (d Diffusion) Params(trainable, frozen nn.Params, draw *Draws) nn.Params {
	p := nn.Join(trainable, frozen)
	if len(d.Tokens) > 0 {
		p = d.WithTokens(p, d.TokenRows(), dtypes.Float32)
	}
	if d.LoRA != nil {
		p = d.LoRA.adapt(p, d.Tree(), draw)
	}
	return p
}

func (d Diffusion) BatchLoss(trainable, frozen nn.Params, batch program.Nodes, draw Draws) *Node {
	p := d.Params(trainable, frozen, &draw)
	latents := sd.Latents(d.VAE, batch.Get(InputMoments), draw.posterior)
	context := d.Context(p, batch)
	sample := d.Draw(draw, latents, context.Text)
	sample.Pooled, sample.TimeIDs, sample.Cond = context.Pooled, context.TimeIDs, batch[InputCondition]
	if d.Masked {
		sample.Mask = d.shrink(batch.Get(InputMask))
	}
	return d.lossOf(p, sample)
}

// shrink averages masks over the pixels of each latent: float32 [batch, resolution/8, resolution/8, 1].
func (d Diffusion) shrink(masks *Node) *Node {
	scale := d.VAE.Scale()
	side := d.Resolution / scale
	return ReduceMean(Reshape(masks, d.Batch, side, scale, side, scale, 1), 2, 4)
}

// Draw adds the noise and the timesteps of a step to scaled latents and text embeddings.
func (d Diffusion) Draw(draw Draws, latents, text *Node) Sample {
	dims := latents.Shape().Dimensions
	s := Sample{
		Latents: latents, Noise: draw.normal(drawNoise, dims...),
		Timesteps: d.Loss.Timesteps.draw(draw, d.Noise.NumTrainTimesteps, dims[0]),
		Text:      text, draw: &draw,
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
	Mask           *Node // weights of the loss, float32 [batch, height, width, 1]; nil: all 1
	Text           *Node // [batch, tokens, cross_attention_dim] in the compute dtype
	// Of SDXL: the pooled text embeddings [batch, projection_dim] in the compute dtype, and the time ids float32
	// [batch, 6].
	Pooled, TimeIDs *Node
	Cond            *Node // float32 [batch, 8·height, 8·width, channels] in [0, 1]; nil without a ControlNet
	draw            *Draws
}

// LossOf is the loss of the network's prediction for a sample, a float32 scalar.
func (d Diffusion) LossOf(trainable, frozen nn.Params, s Sample) *Node {
	return d.lossOf(d.Params(trainable, frozen, s.draw), s)
}

func (d Diffusion) lossOf(p nn.Params, s Sample) *Node { return d.LossBy(d.Predict(p, s), s) }

// LossBy is the loss of a prediction for a sample. As in diffusers' script, min-SNR does not weigh the class images of
// prior preservation.
func (d Diffusion) LossBy(prediction *Node, s Sample) *Node {
	target := d.Noise.Target(s.Latents, s.Noise, s.Timesteps)
	losses := d.Loss.unweighted(d.Noise, prediction, target, s.Timesteps, s.Mask)
	if d.PriorRows == 0 {
		return ReduceAllMean(d.Loss.weighted(d.Noise, losses, s.Timesteps))
	}
	own := AxisRange(0, d.Batch-d.PriorRows)
	prior := MulScalar(ReduceAllMean(Slice(losses, AxisRange(d.Batch-d.PriorRows))), d.PriorWeight)
	return Add(ReduceAllMean(d.Loss.weighted(d.Noise, Slice(losses, own), Slice(s.Timesteps, own))), prior)
}

// Predict is what the network makes of the noisy latents, in the compute dtype.
func (d Diffusion) Predict(p nn.Params, s Sample) *Node {
	added := s.InputNoise
	if added == nil {
		added = s.Noise
	}
	noisy := ConvertDType(d.Noise.Add(s.Latents, added, s.Timesteps), d.Compute)
	context := unet.Context{Text: s.Text, Pooled: s.Pooled, TimeIDs: s.TimeIDs}
	residuals := sd.Residuals(p, d.controls(p, s.Cond), noisy, s.Timesteps, context)
	return d.UNet.Forward(p.In(sd.UNet), noisy, s.Timesteps, context, residuals)
}

// controls is the ControlNet with its conditioning images; none without one.
func (d Diffusion) controls(p nn.Params, cond *Node) []sd.Control {
	if d.ControlNet == nil {
		return nil
	}
	at := p.In(sd.ControlNet).In(controlnet.Embedding)
	c := sd.Control{
		Config: *d.ControlNet, Name: sd.ControlNet,
		Embedding: d.ControlNet.CondEmbedding(at, ConvertDType(cond, d.Compute)),
	}
	if d.OnlyMidControl {
		c.Adjust = func(r *unet.Residuals) *unet.Residuals {
			for i, x := range r.Down {
				r.Down[i] = ZerosLike(x)
			}
			return r
		}
	}
	return []sd.Control{c}
}
