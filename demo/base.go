// Package demo is the tutorial, end to end: a tiny base model and a ControlNet for it, trained on drawings of circles,
// and images that show how well it follows the outlines.
package demo

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/data/circles"
	"limner/internal/settings"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/sd"
	"limner/models/unet"
	"limner/train"
	"limner/train/latents"
	"limner/train/optim"
	"limner/train/watch"
	"limner/xla"
)

// Hooks report the progress of a job to the caller. All are required.
type Hooks struct {
	Phase func(name string)     // a phase begins
	Step  func(watch.Progress)  // of training
	Count func(done, total int) // of anything else
	Log   io.Writer             // lines worth reading
}

// Size is the side of the demo's pictures in pixels.
const Size = 64

// BaseOptions say how the base model is trained: flags of limner base, but the batches.
type BaseOptions struct {
	OutputDir string `json:"-" required:"" placeholder:"DIR" help:"Folder for the dataset, the runs and, in DIR/base, the model."`
	Seed      uint64 `json:"seed" default:"1" help:"Of everything random."`
	Images    int    `json:"images" default:"8000" help:"Pictures in the dataset."`
	VAESteps  int    `json:"vae_steps" name:"vae-steps" default:"1500" help:"Steps of the VAE's training."`
	VAEBatch  int    `json:"vae_batch" kong:"-" default:"16"`
	UNetSteps int    `json:"unet_steps" name:"unet-steps" default:"2500" help:"Steps of the UNet's training."`
	UNetBatch int    `json:"unet_batch" kong:"-" default:"32"`
	// DecoderSteps, of VAEBatch images, refine the VAE's decoder at the end, with the finished model.
	DecoderSteps int `json:"decoder_steps" default:"1600" help:"Steps that refine the VAE's decoder at the end."`
}

// DefaultBaseOptions are the options with which the shipped base model was trained.
func DefaultBaseOptions() BaseOptions { return settings.Default[BaseOptions]() }

// Record is how a base model was trained, as training.json in its folder has it. Losses are means of the last hundred
// steps.
type Record struct {
	Options     BaseOptions        `json:"options"`
	Dataset     string             `json:"dataset"`
	VAELoss     float64            `json:"vae_loss"`     // absolute error in [-1, 1] plus the weighted KL divergence
	UNetLoss    float64            `json:"unet_loss"`    // squared error of v
	DecoderLoss float64            `json:"decoder_loss"` // absolute error in [-1, 1]
	LatentScale float64            `json:"scaling_factor"`
	Seconds     map[string]float64 `json:"seconds"`
	Parameters  map[string]int     `json:"parameters"`
}

// tinyModel is the base model's structure: Stable Diffusion 1.x's, small.
func tinyModel(tokenizer *clip.Tokenizer) *diffusers.Pipeline {
	p := &diffusers.Pipeline{Networks: sd.Default(), Tokenizer: tokenizer}
	p.UNet.SampleSize = Size / 8
	p.UNet.BlockOutChannels = []int{64, 128, 128}
	p.UNet.DownBlockTypes = []string{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"}
	p.UNet.UpBlockTypes = []string{"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}
	p.UNet.LayersPerBlock = 1
	p.UNet.CrossAttentionDim = 64
	p.UNet.AttentionHeadDim = unet.PerLevel{4}
	p.UNet.NormNumGroups = 16

	p.VAE.SampleSize = Size
	p.VAE.BlockOutChannels = []int{16, 32, 64, 64}
	p.VAE.DownBlockTypes = []string{
		"DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
	}
	p.VAE.UpBlockTypes = []string{"UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"}
	p.VAE.NormNumGroups = 8

	p.Text.VocabSize = tokenizer.VocabSize()
	p.Text.HiddenSize, p.Text.IntermediateSize = 64, 256
	p.Text.NumHiddenLayers, p.Text.NumAttentionHeads = 2, 4
	p.Text.MaxPositionEmbeddings = tokenizer.MaxLength()
	p.Text.BOSTokenID, p.Text.EOSTokenID = int(tokenizer.BOS()), int(tokenizer.EOS())
	p.Text.PadTokenID = int(tokenizer.Pad())

	p.Noise.PredictionType = noise.VPrediction
	p.Noise.ClipSample, p.Noise.SetAlphaToOne, p.Noise.StepsOffset = false, false, 1
	return p
}

// maxTokens is the length of the base model's prompts, with both ends.
const maxTokens = 16

// trainTokenizer fits a tokenizer to the captions of the data.
func trainTokenizer(set circles.Set) (*clip.Tokenizer, error) {
	captions := make([]string, set.Count)
	for i := range captions {
		captions[i] = set.Example(i).Caption()
	}
	return clip.TrainTokenizer(captions, 200, maxTokens)
}

// TrainBase trains the base model from nothing: tokenizer, VAE, UNet with text encoder, then the VAE's decoder again.
// Each part continues where an interrupted call with the same options stopped.
func TrainBase(ctx context.Context, b *xla.Backend, o BaseOptions, h Hooks) error {
	set := circles.Default()
	set.Count, set.Size, set.Seed = o.Images, Size, o.Seed
	record := Record{Options: o, Seconds: map[string]float64{}, Parameters: map[string]int{}}
	record.Dataset = fmt.Sprintf("limner data synth circles --count %d --size %d --seed %d",
		set.Count, set.Size, set.Seed)
	dataset := filepath.Join(o.OutputDir, "data")
	if _, err := os.Stat(dataset); err != nil {
		h.Phase("writing circles")
		if err := circles.Write(ctx, set, dataset, h.Count); err != nil {
			return err
		}
	}
	tokenizer, err := trainTokenizer(set)
	if err != nil {
		return err
	}
	model := tinyModel(tokenizer)
	for _, component := range []string{diffusers.UNet, diffusers.VAE, diffusers.TextEncoder} {
		record.Parameters[component] = model.Tree(component).Size()
	}
	blank := filepath.Join(o.OutputDir, "blank")
	if err := model.Save(blank, initial(model, o.Seed), "F32"); err != nil {
		return err
	}

	start := time.Now()
	values, vaeLoss, err := trainVAE(ctx, b, o.options("vae", o.VAEBatch, o.VAESteps), h, model, blank, dataset)
	if err != nil {
		return err
	}
	record.Seconds["vae"], record.VAELoss = time.Since(start).Seconds(), vaeLoss
	if model.VAE.ScalingFactor, err = latentScale(ctx, b, model, values, dataset, h); err != nil {
		return err
	}
	record.LatentScale = model.VAE.ScalingFactor
	withVAE := filepath.Join(o.OutputDir, "with-vae")
	if err := model.Save(withVAE, nn.Merge(initial(model, o.Seed), values), "F32"); err != nil {
		return err
	}

	start = time.Now()
	unetLoss, err := trainUNet(ctx, b, o, h, withVAE, dataset)
	if err != nil {
		return err
	}
	record.Seconds["unet"], record.UNetLoss = time.Since(start).Seconds(), unetLoss

	start = time.Now()
	refined, decoderLoss, err := refineDecoder(ctx, b, o, h, model, dataset)
	if err != nil {
		return err
	}
	record.Seconds["decoder"], record.DecoderLoss = time.Since(start).Seconds(), decoderLoss
	return publishBase(o, record, refined)
}

func initial(p *diffusers.Pipeline, seed uint64) nn.Values {
	values := nn.Values{}
	for _, component := range []string{diffusers.UNet, diffusers.VAE, diffusers.TextEncoder} {
		values = nn.Merge(values, nn.InitValues(p.Tree(component), seed).Under(component))
	}
	return values
}

// options are the training options of the VAE and the UNet.
func (o BaseOptions) options(name string, batch, steps int) train.Options {
	t := train.DefaultOptions()
	t.OutputDir, t.Seed, t.Batch, t.MaxTrainSteps = filepath.Join(o.OutputDir, name), o.Seed, batch, steps
	t.LearningRate = 1e-3
	t.Schedule = optim.Schedule{Name: "cosine", Warmup: 100}
	ema := optim.DefaultEMA()
	ema.Decay = 0.998
	t.EMA = &ema
	t.CheckpointsTotalLimit = 2
	t.ResumeFromCheckpoint = "latest"
	return t
}

// recipe is the common part of the recipes of the VAE and the UNet.
func recipe(h Hooks, model, dataset string) train.Recipe {
	var r train.Recipe
	r.Model, r.Data, r.Reading, r.Resolution, r.FromScratch = model, []string{dataset},
		data.DefaultReading(), Size, true
	r.Compute, r.Log, r.OnStep, r.OnEncode = dtypes.Float32, h.Log, h.Step, h.Count
	return r
}

func trainVAE(ctx context.Context, b *xla.Backend, options train.Options, h Hooks, model *diffusers.Pipeline,
	blank, dataset string) (nn.Values, float64, error) {
	h.Phase("training the VAE")
	r := recipe(h, blank, dataset)
	r.KLWeight = 1e-6
	return runVAE(ctx, b, options, r, model)
}

// refineDecoder continues to train the VAE's decoder on the finished model.
func refineDecoder(ctx context.Context, b *xla.Backend, o BaseOptions, h Hooks, model *diffusers.Pipeline,
	dataset string) (nn.Values, float64, error) {
	h.Phase("refining the decoder")
	r := recipe(h, filepath.Join(o.OutputDir, "unet"), dataset)
	r.FromScratch, r.DecoderOnly = false, true
	return runVAE(ctx, b, o.options("decoder", o.VAEBatch, o.DecoderSteps), r, model)
}

// runVAE trains what the recipe says and returns the VAE and its final loss.
func runVAE(ctx context.Context, b *xla.Backend, options train.Options, r train.Recipe,
	model *diffusers.Pipeline) (nn.Values, float64, error) {
	run, err := train.NewAutoencoder(ctx, b, options, r)
	if err != nil {
		return nil, 0, err
	}
	defer run.Close()
	if err := run.Do(ctx); err != nil {
		return nil, 0, err
	}
	values, err := diffusers.LoadComponent(options.OutputDir, diffusers.VAE, model.VAE.Tree())
	if err != nil {
		return nil, 0, err
	}
	loss, err := finalLoss(options.OutputDir)
	return values, loss, err
}

func trainUNet(ctx context.Context, b *xla.Backend, o BaseOptions, h Hooks, model, dataset string) (float64, error) {
	h.Phase("training the UNet and the text encoder")
	r := recipe(h, model, dataset)
	r.TrainTextEncoder, r.CacheLatents, r.ProportionEmpty = true, true, 0.1
	options := o.options("unet", o.UNetBatch, o.UNetSteps)
	run, err := train.NewTextToImage(ctx, b, options, r)
	if err != nil {
		return 0, err
	}
	defer run.Close()
	if err := run.Do(ctx); err != nil {
		return 0, err
	}
	return finalLoss(options.OutputDir)
}

// finalLoss is the mean loss of a run's last hundred steps.
func finalLoss(dir string) (float64, error) {
	steps, err := watch.ReadMetrics(dir)
	if err != nil || len(steps) == 0 {
		return 0, err
	}
	last := steps[max(0, len(steps)-100):]
	var sum float64
	for _, p := range last {
		sum += p.Loss
	}
	return sum / float64(len(last)), nil
}

// latentScale is one over the standard deviation of the latents, so that the UNet sees unit variance
// (Rombach et al. 2022, arXiv:2112.10752, appendix G).
func latentScale(ctx context.Context, b *xla.Backend, model *diffusers.Pipeline, values nn.Values, dir string,
	h Hooks) (float64, error) {
	h.Phase("measuring the latents")
	columns := data.DefaultOptions()
	columns.NeedConditioning, columns.Resolution, columns.BatchSize = false, Size, 1
	dataset, err := data.Open([]string{dir}, columns)
	if err != nil {
		return 0, err
	}
	defer dataset.Close()
	encoder := latents.Encoder{
		Backend: b, VAE: model.VAE, Weights: checkpoint.InMemory(values), Resolution: Size,
		Batch: 32, Progress: h.Count,
	}
	moments, err := train.Encode(ctx, encoder, dataset)
	if err != nil {
		return 0, err
	}
	var n, sum, squares float64
	channels := model.VAE.LatentChannels
	for row := range dataset.Len() {
		for i, v := range moments.Of(int64(row), false) {
			if i%(2*channels) < channels { // the rest are log variances
				n++
				sum += float64(v)
				squares += float64(v) * float64(v)
			}
		}
	}
	mean := sum / n
	return 1 / math.Sqrt(squares/n-mean*mean), nil
}

// publishBase writes the finished model to the folder base, with half-precision weights, and the record of its
// training.
func publishBase(o BaseOptions, record Record, decoder nn.Values) error {
	trained := filepath.Join(o.OutputDir, "unet")
	model, err := diffusers.Open(trained)
	if err != nil {
		return err
	}
	values, err := model.Load(diffusers.UNet, diffusers.VAE, diffusers.TextEncoder)
	if err != nil {
		return err
	}
	dir := filepath.Join(o.OutputDir, "base")
	if err := model.Save(dir, nn.Merge(values, decoder), "F16"); err != nil {
		return err
	}
	return checkpoint.WriteJSON(filepath.Join(dir, "training.json"), record)
}
