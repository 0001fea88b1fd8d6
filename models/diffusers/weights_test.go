package diffusers_test

import (
	"os"
	"path/filepath"
	"testing"

	"limner/internal/golden"
	"limner/models/diffusers"
)

// Weights have a fingerprint of their own, wherever they lie.
func TestFingerprint(t *testing.T) {
	of := func(dir string, components ...string) string {
		t.Helper()
		p, err := diffusers.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		w, err := p.Weights(p.Components()...)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if components == nil {
			components = p.Components()
		}
		sum, err := w.Fingerprint(components...)
		if err != nil || len(sum) != 64 {
			t.Fatalf("got %q, %v", sum, err)
		}
		return sum
	}
	model, copied := golden.Path(t, "sd15-tiny"), t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	if a, b := of(model), of(copied); a != b {
		t.Errorf("a copy has %s, want %s", b, a)
	}
	if of(model, diffusers.UNet) == of(model, diffusers.VAE) || of(model, diffusers.UNet) == of(model) {
		t.Error("components share a fingerprint")
	}
	files, err := filepath.Glob(filepath.Join(copied, "unet", "*.safetensors"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v, %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := len(raw) / 4 * 2; i < len(raw); i += 4 { // the lowest bits of the last half
		raw[i] ^= 1
	}
	if err := os.WriteFile(files[0], raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if of(model) == of(copied) || of(model, diffusers.VAE) != of(copied, diffusers.VAE) {
		t.Error("other weights of the UNet have the same fingerprint, or those of the VAE another")
	}
}
