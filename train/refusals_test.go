package train

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/imaging"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/train/loss"
	"limner/train/watch"
)

// What cannot be trained is refused before anything is compiled, with every bad field.
func TestRefusals(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	taken := t.TempDir()
	if err := os.WriteFile(filepath.Join(taken, "thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	bare := t.TempDir()
	if err := imaging.WritePNG(filepath.Join(bare, "a.png"), imaging.NewRGB(16, 16)); err != nil {
		t.Fatal(err)
	}
	dropping := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dropping, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	for file, field := range map[string]string{"unet": `"dropout": 0.1`, "text_encoder": `"attention_dropout": 0.2`} {
		path := filepath.Join(dropping, file, "config.json")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(raw), "{", "{"+field+", ", 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		prepare prepare
		change  func(o *Options, r *Recipe)
		want    string
	}{
		"no such model": {
			NewControlNet, func(_ *Options, r *Recipe) { r.Model = "nowhere" }, "no model folder at nowhere",
		},
		"no ControlNet": {
			NewControlNet, func(_ *Options, r *Recipe) { r.ControlNet = model },
			"is a whole model, without a folder controlnet: give the folder of a ControlNet",
		},
		"embedding": {
			NewControlNet, func(_ *Options, r *Recipe) { r.EmbeddingChannels = []int{4, 8, 8} },
			"give 2 conditioning_embedding_out_channels",
		},
		"resolution": {
			NewControlNet, func(_ *Options, r *Recipe) { r.Resolution = 17 }, "got 17, want a multiple of 2",
		},
		"columns": {NewControlNet, func(_ *Options, r *Recipe) { r.CaptionColumn = "caption" }, "text"},
		"text encoder": {
			NewControlNet, func(_ *Options, r *Recipe) { r.TrainTextEncoder = true }, "train_text_encoder",
		},
		"schedule": {NewControlNet, func(o *Options, _ *Recipe) { o.Schedule.Name = "cosin" }, `lr_scheduler: got "cosin"`},
		"proportion": {
			NewTextToImage, func(_ *Options, r *Recipe) { r.ProportionEmpty = 2 }, "proportion_empty_prompts: got 2",
		},
		"a prompt of one side": {
			NewTextToImage, func(_ *Options, r *Recipe) { r.InstancePrompt, r.RandomFlip = "my left shoe", true },
			"random_flip: the instance_prompt says left, which",
		},
		"other files": {
			NewAutoencoder, func(o *Options, _ *Recipe) { o.OutputDir = taken }, "holds something else (thesis.tex)",
		},
		"batch of too many": {
			NewAutoencoder, func(o *Options, _ *Recipe) { o.Batch = 64 }, "batch size 64 is more than the 20 rows",
		},
		"its folder": {
			NewControlNet, func(_ *Options, r *Recipe) { r.ControlNet = golden.Path(t, "sd15-tiny") },
			"is a whole model: give its ControlNet's folder, " + golden.Path(t, "sd15-tiny", "controlnet"),
		},
		"loss": {NewTextToImage, func(o *Options, r *Recipe) {
			r.Model, r.ProportionEmpty, r.Loss.SNRGamma, r.Loss.Timesteps.Min, o.LearningRate = "nowhere", 2, -1, -2, -1
		}, "proportion_empty_prompts: got 2, want 0 to 1\nsnr_gamma: got -1, want at least 0\n" +
			"min_timestep, max_timestep: got -2 and 0, want 0 ≤ min < max\nlearning_rate: got -1"},
		"two at once": {
			NewTextToImage, func(o *Options, r *Recipe) { r.ProportionEmpty, o.LearningRate = 2, -1 },
			"proportion_empty_prompts: got 2, want 0 to 1\nlearning_rate: got -1",
		},
		"no captions": {
			NewTextToImage, func(_ *Options, r *Recipe) { r.Data = []string{bare} },
			"a.png has no caption: write it to a.txt beside it",
		},
		"no pair": {
			NewControlNet, func(_ *Options, r *Recipe) { r.Data, r.InstancePrompt = []string{bare}, "a circle" },
			"has no conditioning image: name the folder of those with --conditioning_data_dir",
		},
		"no masks": {NewTextToImage, func(_ *Options, r *Recipe) { r.MaskColumn = "mask" }, "mask"},
		"other family": {
			NewControlNet, func(_ *Options, r *Recipe) { r.ControlNet = golden.Path(t, "sdxl-tiny", "controlnet") },
			"does not fit " + model,
		},
		"cache and crops": {
			NewTextToImage, func(_ *Options, r *Recipe) { r.RandomCrop = true }, "cache_latents: a random crop",
		},
		"a place alone": {
			NewTextToImage, func(_ *Options, r *Recipe) { r.CacheLatents, r.CacheDir = false, taken },
			"cache_dir: it keeps latents",
		},
		"dropout": {
			NewTextToImage, func(_ *Options, r *Recipe) { r.Model, r.TrainTextEncoder = dropping, true },
			"unet/config.json: dropout is 0.1, and training is supported without: set it to 0\n" +
				"text_encoder/config.json: attention_dropout is 0.2",
		},
		"no LoRA": {NewLoRA, func(_ *Options, _ *Recipe) {}, "say what to train"},
		"LoRA": {
			NewLoRA, func(_ *Options, r *Recipe) { r.LoRA = &loss.LoRA{Dropout: 1} },
			"rank: got 0, want 1 to 16384\nlora_alpha: got 0, want above 0\nlora_dropout: " +
				"got 1, want at least 0 and below 1\nlora_targets: name the layers to train\nlora_format: got \"\"",
		},
		"targets": {NewLoRA, func(_ *Options, r *Recipe) {
			r.LoRAFormat, r.LoRA = "both", &loss.LoRA{Rank: 1, Alpha: 1, Targets: []string{"to_q", "to_z"}}
		}, "lora_targets: the model has no layer to_z"},
		"no tokens": {
			NewTextualInversion, func(_ *Options, _ *Recipe) {}, "placeholder_token: name a token to learn",
		},
		"tokens": {
			NewTextualInversion, func(_ *Options, r *Recipe) {
				r.Tokens = []loss.Token{{Text: "<a.b>", Initializer: "two words"}}
			}, "num_vectors: got 0, want 1 to 10, which is what a prompt holds between its start and its end\n" +
				"placeholder_token: \"<a.b>\" has a dot",
		},
		"known token": {
			NewTextualInversion, func(_ *Options, r *Recipe) {
				r.Tokens = []loss.Token{{Text: "a</w>", Vectors: 1, Initializer: "b"}}
			}, "placeholder_token: ",
		},
		"no token in prompts": {NewTextualInversion, func(_ *Options, r *Recipe) {
			r.Tokens = []loss.Token{
				{Text: "<x>", Vectors: 1, Initializer: "a"}, {Text: "<y>", Vectors: 1, Initializer: "a"},
			}
			r.Watch.Validation.Prompts = []string{"<z>", "x"}
		}, "validation_prompt: none has <x> or <y>"},
		"property": {NewTextualInversion, func(_ *Options, r *Recipe) { r.Property = "colour" }, `learnable_property: got "colour", want object, style, caption`},
		"many vectors": {NewTextualInversion, func(_ *Options, r *Recipe) {
			r.Tokens = []loss.Token{{Text: "<x>", Vectors: 1_000_000_000, Initializer: "a"}}
		}, "num_vectors: got 1000000000, want 1 to 10"},
		"scheduler": {NewTextToImage, func(_ *Options, r *Recipe) {
			r.Watch.Validation = watch.DefaultValidation()
			r.Watch.Validation.Prompts, r.Watch.Validation.Scheduler = []string{"a"}, "eulr"
		}, "validation_scheduler, validation_inference_steps: "},
		"held-out rows": {NewTextToImage, func(_ *Options, r *Recipe) {
			r.Watch.Validation = watch.DefaultValidation()
			r.Watch.Validation.Data = []string{bare}
		}, "validation_data_dir: "},
		"held-out rows that are trained on": {NewTextToImage, func(_ *Options, r *Recipe) {
			r.Watch.Validation = watch.DefaultValidation()
			r.Watch.Validation.Data = r.Data
		}, "is trained on: name images that training does not see"},
		"class": {
			NewTextToImage, func(_ *Options, r *Recipe) { r.Prior = &Prior{} },
			"class_data_dir: give a folder for the images of the class\nclass_prompt: say what the class is\n" +
				"prior_loss_weight: got 0",
		},
		"odd batch": {
			NewTextToImage, func(o *Options, r *Recipe) {
				o.Batch, r.Prior = 3, &Prior{Data: r.Data, Prompt: "a", Weight: 1}
			}, "batch 3: want an even number",
		},
	} {
		o, r, log := smallRun(t, model, dataset)
		r.OnEncode = func(int, int) { t.Errorf("%s: images were encoded before it was refused", name) }
		c.change(&o, &r)
		run, err := c.prepare(context.Background(), b, o, r)
		if err == nil {
			err = run.Do(context.Background())
			run.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if strings.Contains(log.String(), "compiling") {
			t.Errorf("%s: something was compiled before it was refused:\n%s", name, log)
		}
	}
	if entries, _ := os.ReadDir(taken); len(entries) != 1 {
		t.Error("a folder of others was written to")
	}
}
