package sample

import (
	"context"
	"slices"
	"testing"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
)

// A LoRA at scale 0 changes no bit; at scale s it is the network whose weights it was added to at s.
func TestLoRA(t *testing.T) {
	plain := goldenPipeline(t, false)
	m := loadModel(t, "sd15", false)
	m.Pipeline.Noise = plain.model.Pipeline.Noise
	path := golden.Path(t, "train", "lora", "kohya.safetensors")
	lora, err := m.Pipeline.OpenLoRA(path)
	if err != nil {
		t.Fatal(err)
	}
	m.LoRAs = []*diffusers.LoRA{lora}
	r := smallRequest("a cat")
	with, err := New(context.Background(), parity.Backend(t), m, plain.shape, r)
	if err != nil {
		t.Fatal(err)
	}
	defer with.Close()
	want := mustSample(t, plain, r).Latents
	r.LoRAScales = []float64{0}
	checkLatents(t, "scale 0", mustSample(t, with, r).Latents, want, 0)

	const scale = 0.7
	r.LoRAScales = []float64{scale}
	got := mustSample(t, with, r).Latents
	if slices.Equal(got, want) {
		t.Error("the LoRA changes nothing")
	}
	values, err := m.Pipeline.Load(diffusers.UNet)
	if err != nil {
		t.Fatal(err)
	}
	file, err := checkpoint.OpenLoRA(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fused := values.Within(diffusers.UNet)
	for key, v := range fused {
		fused[key] = slices.Clone(v)
	}
	if err := file.Fuse(diffusers.UNet, m.Pipeline.UNet.Tree(), fused, scale); err != nil {
		t.Fatal(err)
	}
	tree := m.Pipeline.UNet.Tree().Under(diffusers.UNet)
	replace := func(v nn.Values) {
		if err := plain.Replace(tree, checkpoint.InMemory(v)); err != nil {
			t.Fatal(err)
		}
	}
	replace(fused.Under(diffusers.UNet))
	defer replace(values)
	r.LoRAScales = nil
	checkLatents(t, "scale 0.7", got, mustSample(t, plain, r).Latents, 1e-4)
}
