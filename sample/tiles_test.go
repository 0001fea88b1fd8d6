package sample

import (
	"context"
	"io"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/models/safetensors"
	"limner/xla/program"
)

// piecewise is a pipeline that can only decode, of the repository's own sd15-tiny.
func piecewise(t *testing.T, shape Shape, slicing, tiling bool) *Pipeline {
	t.Helper()
	model, err := diffusers.Open("../testdata/goldens/sd15-tiny")
	if err != nil {
		t.Fatal(err)
	}
	weights, err := model.Weights(diffusers.VAE)
	if err != nil {
		t.Fatal(err)
	}
	defer weights.Close()
	m := Model{
		Pipeline: model, Weights: weights, Log: io.Discard, Compute: dtypes.Float32,
		VAESlicing: slicing, VAETiling: tiling,
	}
	p := &Pipeline{
		backend: parity.Backend(t), model: m, shape: shape, trees: m.trees(), params: program.Arrays{},
		pieces: map[pieceKey]*program.Program{},
	}
	if err := p.load(t.Context(), p.trees.decode); err != nil {
		t.Fatal(err)
	}
	return p
}

// The reference is AutoencoderKL.decode of diffusers 0.42.1 with enable_tiling, on this VAE.
func TestTiledDecode(t *testing.T) {
	f, err := safetensors.Open("testdata/vae_tiled.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(key string) parity.Tensor {
		tensor, _ := f.Tensor(key)
		values, err := tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		return parity.Tensor{Data: values, Shape: tensor.Shape}.NHWC()
	}
	z, want := read("z"), read("out")
	p := piecewise(t, Shape{Batch: 2, Height: want.Shape[1], Width: want.Shape[2]}, true, true)
	if !p.tiled() {
		t.Fatal("the image is not larger than a tile")
	}
	latents := make([]float32, len(z.Data))
	for i, v := range z.Data {
		latents[i] = v * float32(p.model.Pipeline.VAE.ScalingFactor)
	}
	got, err := p.decodePieces(context.Background(), slices.Repeat(latents, 2))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range want.Data {
		want.Data[i] = min(max(v/2+0.5, 0), 1)
	}
	parity.Check(t, "image 0", parity.Tensor{Data: got[:len(got)/2], Shape: want.Shape}, want, 1e-5)
	if !slices.Equal(got[len(got)/2:], got[:len(got)/2]) {
		t.Error("slices of the same latents differ")
	}
}
