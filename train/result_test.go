package train

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/models/diffusers"
	"limner/train/loss"
)

// results check what a recipe of TestResumeToTheSameBits leaves in its output folder, as those read it who draw with
// it.
var results = map[string]func(t *testing.T, model, dir string){
	"controlnet": checkUnlocked, "lora": checkLoRAFiles, "textual-inversion": checkTokenFiles,
	"text-to-image": checkWholeModel,
}

func openModel(t *testing.T, dir string) *diffusers.Pipeline {
	t.Helper()
	p, err := diffusers.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// checkUnlocked wants a ControlNet, and a model whose UNet has another decoder and the encoder that it had.
func checkUnlocked(t *testing.T, model, dir string) {
	if _, _, err := diffusers.OpenControlNet(filepath.Join(dir, diffusers.ControlNet)); err != nil {
		t.Error(err)
	}
	before, err := openModel(t, model).Load(diffusers.UNet)
	if err != nil {
		t.Fatal(err)
	}
	result := openModel(t, dir)
	after, err := result.Load(diffusers.UNet)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, spec := range result.UNet.Tree() {
		decoder := strings.HasPrefix(spec.Key, "up_blocks.") || strings.HasPrefix(spec.Key, "conv_norm_out.") ||
			strings.HasPrefix(spec.Key, "conv_out.")
		same := slices.Equal(before["unet."+spec.Key], after["unet."+spec.Key])
		if !decoder && !same {
			t.Errorf("%s is frozen and changed", spec.Key)
		}
		if decoder && !same {
			changed++
		}
	}
	if changed == 0 {
		t.Error("the decoder did not change")
	}
}

// checkLoRAFiles wants one LoRA in both namings, with a trained B. That of diffusers has no alpha, so the scale of 2 is
// in B.
func checkLoRAFiles(t *testing.T, model, dir string) {
	p := openModel(t, model)
	ours, err := p.OpenLoRA(filepath.Join(dir, loss.LoRAFile))
	if err != nil {
		t.Fatal(err)
	}
	kohya, err := p.OpenLoRA(filepath.Join(dir, loss.LoRAKohyaFile))
	if err != nil {
		t.Fatal(err)
	}
	if len(ours.Layers) == 0 || len(ours.Layers) != len(kohya.Layers) {
		t.Fatalf("%d layers in diffusers' naming, %d in kohya's", len(ours.Layers), len(kohya.Layers))
	}
	named := map[string]diffusers.LoRALayer{}
	for _, layer := range kohya.Layers {
		named[layer.Path] = layer
	}
	components := map[string]bool{}
	for _, layer := range ours.Layers {
		other := named[layer.Path]
		if layer.Scale != 1 || other.Scale != 2 {
			t.Errorf("%s: scale %g in diffusers' naming, %g in kohya's, want 1 and 2",
				layer.Path, layer.Scale, other.Scale)
		}
		for i := range other.Up {
			other.Up[i] *= 2
		}
		if !slices.Equal(layer.Down, other.Down) || !slices.Equal(layer.Up, other.Up) {
			t.Errorf("%s differs between the namings", layer.Path)
		}
		if !slices.ContainsFunc(layer.Up, func(v float32) bool { return v != 0 }) {
			t.Errorf("%s: B was not trained", layer.Path)
		}
		components[layer.Component] = true
	}
	if !components[diffusers.UNet] || !components[diffusers.TextEncoder] {
		t.Errorf("got layers of %v, want of both networks", components)
	}
}

// checkTokenFiles wants a file for each token, which a pipeline takes.
func checkTokenFiles(t *testing.T, model, dir string) {
	p := openModel(t, model)
	rows := p.Text.VocabSize
	for i := range 2 {
		if err := p.AddEmbedding(filepath.Join(dir, loss.TokenFile(make([]loss.Token, 2), i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.Text.VocabSize - rows; got != 3 {
		t.Errorf("%d embeddings were added, want 3", got)
	}
	if ids := p.Tokenizer.Encode("<x> <y>"); !slices.Equal(ids,
		[]int32{int32(rows), int32(rows + 1), int32(rows + 2)}) {
		t.Errorf("the tokens are %v", ids)
	}
}

// checkWholeModel wants a model with another UNet and text encoder and the VAE that it had.
func checkWholeModel(t *testing.T, model, dir string) {
	p := openModel(t, dir)
	before, err := openModel(t, model).Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	after, err := p.Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"unet.conv_in.weight", "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.weight",
		"text_encoder_2.text_projection.weight",
	} {
		if slices.Equal(before[key], after[key]) {
			t.Errorf("%s did not change", key)
		}
	}
	if key := "vae.encoder.conv_in.weight"; !slices.Equal(before[key], after[key]) {
		t.Errorf("%s changed", key)
	}
}
