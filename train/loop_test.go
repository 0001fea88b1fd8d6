package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/data/circles"
	"limner/internal/parity"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/sd"
	"limner/models/unet"
	"limner/train/folder"
	"limner/train/loss"
	"limner/train/optim"
	"limner/train/watch"
	"limner/xla"
)

// smallModel writes a Stable Diffusion folder of a few thousand parameters, with 2 pixels per latent.
func smallModel(t *testing.T) string {
	t.Helper()
	tokenizer, err := clip.TrainTokenizer([]string{"red circle with blue background"}, 20, 12)
	if err != nil {
		t.Fatal(err)
	}
	p := &diffusers.Pipeline{Networks: sd.Default(), Tokenizer: tokenizer}
	p.UNet.BlockOutChannels, p.UNet.LayersPerBlock, p.UNet.NormNumGroups = []int{8, 8}, 1, 4
	p.UNet.DownBlockTypes = []string{"CrossAttnDownBlock2D", "DownBlock2D"}
	p.UNet.UpBlockTypes = []string{"UpBlock2D", "CrossAttnUpBlock2D"}
	p.UNet.CrossAttentionDim, p.UNet.AttentionHeadDim = 8, unet.PerLevel{2}
	p.VAE.BlockOutChannels, p.VAE.NormNumGroups = []int{4, 4}, 2
	p.VAE.DownBlockTypes = []string{"DownEncoderBlock2D", "DownEncoderBlock2D"}
	p.VAE.UpBlockTypes = []string{"UpDecoderBlock2D", "UpDecoderBlock2D"}
	p.Text.VocabSize, p.Text.HiddenSize, p.Text.IntermediateSize = tokenizer.VocabSize(), 8, 16
	p.Text.NumHiddenLayers, p.Text.NumAttentionHeads, p.Text.MaxPositionEmbeddings = 1, 2, tokenizer.MaxLength()
	p.Noise.PredictionType = noise.VPrediction
	return saveModel(t, p)
}

// smallXL is smallModel with two text encoders, as SDXL.
func smallXL(t *testing.T, dir string) string {
	t.Helper()
	p := openModel(t, dir)
	text := p.Text
	text.Architectures, text.ProjectionDim = []string{clip.WithProjection}, 6
	p.ClassName, p.Text2, p.Tokenizer2 = "StableDiffusionXLPipeline", &text, p.Tokenizer
	embedding, width, input := "text_time", 4, 6+6*4
	p.UNet.AdditionEmbedType, p.UNet.AdditionTimeEmbedDim, p.UNet.AdditionInputDim = &embedding, &width, &input
	p.UNet.CrossAttentionDim = p.Text.HiddenSize + text.HiddenSize
	return saveModel(t, p)
}

func saveModel(t *testing.T, p *diffusers.Pipeline) string {
	t.Helper()
	values := nn.Values{}
	for _, component := range p.Components() {
		values = nn.Merge(values, nn.InitValues(p.Tree(component), 1).Under(component))
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := p.Save(dir, values, "F32"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func smallDataset(t *testing.T) string {
	t.Helper()
	c := circles.Default()
	c.Count, c.Size = 20, 16
	dir := filepath.Join(t.TempDir(), "data")
	if err := circles.Write(context.Background(), c, dir, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newWithTextEncoder trains the UNet and the text encoder, on images turned around and cropped anywhere beside those of
// a class.
func newWithTextEncoder(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	r.TrainTextEncoder, r.CacheLatents = true, false
	r.RandomCrop, r.RandomFlip = true, true
	r.InstancePrompt, r.Prior = "red circle", &Prior{Data: r.Data, Prompt: "circle", Weight: 0.5}
	return NewTextToImage(ctx, b, o, r)
}

// newUnlocked trains a ControlNet and the UNet's decoder on masked images, some of them turned around.
func newUnlocked(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	r.SDUnlocked, r.RandomFlip, r.MaskColumn = true, true, "conditioning_image"
	return NewControlNet(ctx, b, o, r)
}

// newMixedLoRA trains a LoRA of layers of each kind, with dropout.
func newMixedLoRA(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	r.TrainTextEncoder, r.LoRAFormat = true, "both"
	r.LoRA = &loss.LoRA{
		Rank: 2, Alpha: 4, Dropout: 0.25, Targets: []string{"attn2.to_q", "mid_block.resnets.0.conv1"},
		TextTargets: []string{"q_proj"},
	}
	return NewLoRA(ctx, b, o, r)
}

// newTokens learns two tokens.
func newTokens(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	r.Property = PropertyObject
	r.Tokens = []loss.Token{{Text: "<x>", Vectors: 2, Initializer: "a"}, {Text: "<y>", Vectors: 1, Initializer: "b"}}
	return NewTextualInversion(ctx, b, o, r)
}

// newDecoder trains the VAE's decoder only.
func newDecoder(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
	r.DecoderOnly = true
	return NewAutoencoder(ctx, b, o, r)
}

type prepare func(context.Context, *xla.Backend, Options, Recipe) (*Run, error)

// smallRun is a run of six steps of four images, twice to a checkpoint.
func smallRun(t *testing.T, model, dataset string) (Options, Recipe, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	o := DefaultOptions()
	o.OutputDir = filepath.Join(t.TempDir(), "run")
	o.Batch, o.MaxTrainSteps, o.CheckpointingSteps, o.LearningRate, o.Seed = 4, 6, 2, 1e-3, 3
	ema := optim.DefaultEMA()
	o.EMA = &ema
	var r Recipe
	r.Model, r.Data, r.Reading, r.Resolution, r.CacheLatents, r.ProportionEmpty = model, []string{dataset},
		data.DefaultReading(), 16, true, 0.5
	r.EmbeddingChannels, r.KLWeight, r.Compute, r.Log, r.OnEncode = []int{4, 8}, 1e-6,
		dtypes.Float32, log, func(int, int) {}
	return o, r, log
}

func do(t *testing.T, ctx context.Context, b *xla.Backend, prepare prepare, o Options, r Recipe) error {
	t.Helper()
	run, err := prepare(ctx, b, o, r)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	return run.Do(ctx)
}

// files reads all files of a folder but those that tell time or where the run was.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() ||
			slices.Contains([]string{"metrics.jsonl", folder.RunName, ".limner.lock", "diary.html"}, entry.Name()) {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Each recipe with whatever draws random numbers in it. The step is compiled once for all three runs, but for the last
// recipe.
func TestResumeToTheSameBits(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	xl := smallXL(t, model)
	for name, c := range map[string]struct {
		model   string
		prepare prepare
	}{
		"controlnet": {xl, newUnlocked}, "text-to-image": {xl, newWithTextEncoder}, "lora": {model, newMixedLoRA},
		"textual-inversion": {model, newTokens}, "vae": {model, NewAutoencoder}, "decoder": {model, newDecoder},
	} {
		t.Run(name, func(t *testing.T) {
			b := b
			if name == "decoder" {
				o := parity.Options(1)
				o.Cache = ""
				b = openFor(t, o)
			}
			o, r, _ := smallRun(t, c.model, dataset)
			first, err := c.prepare(context.Background(), b, o, r)
			if err != nil {
				t.Fatal(err)
			}
			defer first.Close()
			if err := first.Do(context.Background()); err != nil {
				t.Fatal(err)
			}
			if check := results[name]; check != nil {
				check(t, c.model, o.OutputDir)
			}
			whole, wholeSteps := files(t, o.OutputDir), readSteps(t, o.OutputDir)

			again := func(ctx context.Context, b *xla.Backend, o Options, r Recipe) (*Run, error) {
				run, err := c.prepare(ctx, b, o, r)
				if err == nil && name != "decoder" {
					run.compiled = first.compiled
				}
				return run, err
			}
			o, r, log := smallRun(t, c.model, dataset)
			interrupt(t, b, again, o, r)
			o.ResumeFromCheckpoint = "latest"
			if err := do(t, context.Background(), b, again, o, r); err != nil {
				t.Fatal(err)
			}
			if want := "going on from " + filepath.Join(o.OutputDir, "checkpoint-3"); !strings.Contains(log.String(),
				want) {
				t.Errorf("the log lacks %q:\n%s", want, log)
			}
			resumed := files(t, o.OutputDir)
			for path, want := range whole {
				if got, ok := resumed[path]; !ok || got != want {
					t.Errorf("%s differs after an interruption (present: %v)", path, ok)
				}
			}
			for i, step := range readSteps(t, o.OutputDir) {
				if want := wholeSteps[i]; step.Loss != want.Loss || step.GradNorm != want.GradNorm ||
					step.Images != want.Images {
					t.Errorf("step %d: got %+v, want %+v", i+1, step, want)
				}
			}
		})
	}
}

// interrupt runs until step 3.
func interrupt(t *testing.T, b *xla.Backend, prepare prepare, o Options, r Recipe) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.OnStep = func(p watch.Progress) {
		if p.Step == 3 {
			cancel()
		}
	}
	if err := do(t, ctx, b, prepare, o, r); !errors.Is(err, ErrInterrupted) ||
		!strings.Contains(err.Error(), "--resume_from_checkpoint latest") {
		t.Fatalf("got %v, want ErrInterrupted and how to go on", err)
	}
}

// readSteps are the six steps of a run.
func readSteps(t *testing.T, dir string) []watch.Progress {
	t.Helper()
	steps, err := watch.ReadMetrics(dir)
	if err != nil || len(steps) != 6 {
		t.Fatalf("%d lines of metrics, want 6 (%v)", len(steps), err)
	}
	return steps
}

func TestDamagedCheckpoint(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	o, r, log := smallRun(t, model, dataset)
	if err := do(t, context.Background(), b, NewAutoencoder, o, r); err != nil {
		t.Fatal(err)
	}
	want := files(t, filepath.Join(o.OutputDir, "checkpoint-6"))
	newest := filepath.Join(o.OutputDir, "checkpoint-6", "optimizer.safetensors")
	if err := os.Truncate(newest, 100); err != nil {
		t.Fatal(err)
	}
	o.ResumeFromCheckpoint = "latest"
	if err := do(t, context.Background(), b, NewAutoencoder, o, r); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"checkpoint-6 is damaged", "optimizer.safetensors" + ": got 100 bytes",
		"going on from " + filepath.Join(o.OutputDir, "checkpoint-4"),
	} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log lacks %q:\n%s", text, log)
		}
	}
	for path, text := range files(t, filepath.Join(o.OutputDir, "checkpoint-6")) {
		if text != want[path] {
			t.Errorf("%s differs from the first time", path)
		}
	}

	o.Seed++
	run, err := NewAutoencoder(context.Background(), b, o, r)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if err := run.Do(context.Background()); err == nil ||
		!strings.Contains(err.Error(), "seed: checkpoint has 3, the run has 4") {
		t.Errorf("another seed: got %v", err)
	}
}

func TestCheckpointsTotalLimit(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	o, r, _ := smallRun(t, model, dataset)
	o.CheckpointingSteps, o.CheckpointsTotalLimit = 1, 2
	if err := do(t, context.Background(), b, NewAutoencoder, o, r); err != nil {
		t.Fatal(err)
	}
	names, err := folder.Checkpoints(o.OutputDir)
	if err != nil || fmt.Sprint(names) != "[checkpoint-6 checkpoint-5]" {
		t.Errorf("got %v, %v", names, err)
	}
	for _, name := range names {
		if err := folder.Verify(filepath.Join(o.OutputDir, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// In bfloat16 the losses are those of float32 to the precision of its eight bits.
func TestBFloat16(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	losses := map[dtypes.DType][]watch.Progress{}
	for _, compute := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
		o, r, log := smallRun(t, model, dataset)
		r.Compute, r.CacheLatents, o.MaxTrainSteps = compute, false, 3
		o.Schedule.Name, o.Schedule.Warmup = "constant_with_warmup", 3
		if err := do(t, context.Background(), b, NewControlNet, o, r); err != nil {
			t.Fatal(err)
		}
		const want = "rises for 3 steps and the run has 3, so it never reaches 0.001"
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
		var err error
		if losses[compute], err = watch.ReadMetrics(o.OutputDir); err != nil {
			t.Fatal(err)
		}
	}
	for i, full := range losses[dtypes.Float32] {
		half := losses[dtypes.BFloat16][i]
		if math.Abs(half.Loss-full.Loss) > 1e-2*full.Loss || half.Loss == full.Loss {
			t.Errorf("step %d: loss %g in float32, %g in bfloat16", i+1, full.Loss, half.Loss)
		}
	}
}
