package train

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"limner/data/imaging"
	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/train/folder"
	"limner/train/loss"
)

// Without --image_interpolation_mode each recipe resizes as its script of diffusers does.
func TestScriptFilter(t *testing.T) {
	sd15, err := diffusers.Family("sd15")
	if err != nil {
		t.Fatal(err)
	}
	sdxl, err := diffusers.Family("sdxl")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		script   string
		recipe   Recipe
		sd, sdxl imaging.Filter
	}{
		{"train_controlnet", Recipe{NeedConditioning: true}, imaging.Bilinear, imaging.Lanczos},
		{"train_text_to_image", Recipe{}, imaging.Lanczos, imaging.Lanczos},
		{
			"train_dreambooth", Recipe{DreamBooth: DreamBooth{InstancePrompt: "a dog"}},
			imaging.Bilinear, imaging.Lanczos,
		},
		{
			"textual_inversion", Recipe{Inversion: Inversion{Tokens: []loss.Token{{Text: "<x>"}}}},
			imaging.Bicubic, imaging.Bicubic,
		},
	} {
		if got := c.recipe.scriptFilter(sd15); got != c.sd {
			t.Errorf("%s: got %s, want %s", c.script, got, c.sd)
		}
		if got := c.recipe.scriptFilter(sdxl); got != c.sdxl {
			t.Errorf("%s for SDXL: got %s, want %s", c.script, got, c.sdxl)
		}
	}
}

// A run that goes on keeps the filter that it began with, whatever the default is by then; a record of a version that
// knew only one means that.
func TestInterpolationOfARunThatGoesOn(t *testing.T) {
	dir := t.TempDir()
	write := func(checkpoint, record string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, checkpoint), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, checkpoint, folder.RecordName), []byte(record), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("checkpoint-2", `{"recipe": {"resolution": 16}}`)
	write("checkpoint-4", `{"recipe": {"resolution": 16, "image_interpolation_mode": "bicubic"}}`)
	for _, c := range []struct {
		name, dir, resume string
		given, want       imaging.Filter
	}{
		{"a new run", dir, "", "", imaging.Lanczos},
		{"the latest", dir, "latest", "", imaging.Bicubic},
		{"by name", dir, "checkpoint-4", "", imaging.Bicubic},
		{"by path", dir, filepath.Join(dir, "checkpoint-4"), "", imaging.Bicubic},
		{"of an earlier version", dir, "checkpoint-2", "", imaging.Bilinear},
		{"given", dir, "checkpoint-2", imaging.Hamming, imaging.Hamming},
		{"nothing to go on from", t.TempDir(), "latest", "", imaging.Lanczos},
	} {
		o, r := DefaultOptions(), Recipe{}
		o.OutputDir, o.ResumeFromCheckpoint, r.Interpolation = c.dir, c.resume, c.given
		if got, err := r.interpolation(o, imaging.Lanczos); err != nil || got != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.name, got, err, c.want)
		}
	}
	write("checkpoint-6", "{") // damaged
	o := DefaultOptions()
	o.OutputDir, o.ResumeFromCheckpoint = dir, "latest"
	if got, err := (Recipe{}).interpolation(o, imaging.Lanczos); err != nil || got != imaging.Bicubic {
		t.Errorf("got %q (%v), want that of the checkpoint before the damaged one", got, err)
	}
}

// What resizes is recorded resolved.
func TestInterpolationIsRecorded(t *testing.T) {
	model, dataset, b := smallModel(t), smallDataset(t), parity.Backend(t)
	for name, c := range map[string]struct {
		prepare prepare
		given   imaging.Filter
		want    imaging.Filter
	}{
		"text-to-image": {NewTextToImage, "", imaging.Lanczos}, "given": {NewTextToImage, imaging.Box, imaging.Box},
		"controlnet": {NewControlNet, "", imaging.Bilinear}, "vae": {NewAutoencoder, "", imaging.Bilinear},
		"textual-inversion": {newTokens, "", imaging.Bicubic},
	} {
		o, r, _ := smallRun(t, model, dataset)
		r.Interpolation, r.CacheLatents = c.given, false
		run, err := c.prepare(context.Background(), b, o, r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := run.Recipe.Interpolation; got != c.want {
			t.Errorf("%s: recorded %q, want %q", name, got, c.want)
		}
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSeedBegunWith(t *testing.T) {
	dir := t.TempDir()
	o := DefaultOptions()
	o.OutputDir, o.ResumeFromCheckpoint = dir, "latest"
	if _, ok, err := o.SeedBegunWith(); ok || err != nil {
		t.Errorf("a folder without checkpoints has a seed (%v)", err)
	}
	begun := DefaultOptions()
	begun.Seed = 1<<64 - 1
	raw, err := json.Marshal(folder.Record{Options: begun})
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "checkpoint-2"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "checkpoint-2", folder.RecordName), raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if seed, ok, err := o.SeedBegunWith(); seed != 1<<64-1 || !ok || err != nil {
		t.Errorf("got %d, %v (%v)", seed, ok, err)
	}
	o.ResumeFromCheckpoint = ""
	if _, ok, err := o.SeedBegunWith(); ok || err != nil {
		t.Errorf("a new run has a seed to go on with (%v)", err)
	}
}
