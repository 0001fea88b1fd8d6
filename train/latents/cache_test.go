package latents

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"limner/data"
	"limner/data/circles"
	"limner/data/imaging"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/vae"
)

func TestMain(m *testing.M) { parity.Main(m) }

// smallEncoder encodes images of 16×16 with a VAE of a few hundred parameters, whose weights are in memory.
func smallEncoder(t *testing.T) Encoder {
	t.Helper()
	c := vae.Default()
	c.BlockOutChannels, c.NormNumGroups = []int{4, 4}, 2
	c.DownBlockTypes = []string{"DownEncoderBlock2D", "DownEncoderBlock2D"}
	c.UpBlockTypes = []string{"UpDecoderBlock2D", "UpDecoderBlock2D"}
	return Encoder{
		Backend: parity.Backend(t), VAE: c, Weights: checkpoint.InMemory(nn.InitValues(c.Tree(), 1).Under("vae")),
		Resolution: 16, Batch: 4, Progress: func(int, int) {},
	}
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

// What is in the cache is not computed again; what is damaged in it is, and is named.
func TestLatentCache(t *testing.T) {
	e := smallEncoder(t)
	columns := data.DefaultOptions()
	columns.NeedConditioning, columns.Resolution, columns.BatchSize = false, 16, 4
	dataset, err := data.Open([]string{smallDataset(t)}, columns)
	if err != nil {
		t.Fatal(err)
	}
	defer dataset.Close()
	dir, log := t.TempDir(), &bytes.Buffer{}
	e.Flips, e.CacheDir, e.Log = true, dir, log
	encode := func(e Encoder, want ...string) Moments {
		t.Helper()
		log.Reset()
		m, err := e.Encode(context.Background(), dataset)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(log.String(), text) {
				t.Errorf("the log lacks %q:\n%s", text, log)
			}
		}
		return m
	}
	first := encode(e, "latents: 0 were in "+dir+", 40 were encoded\n")
	if len(first.Of(3, false)) != 8*8*8 || slices.Equal(first.Of(3, false), first.Of(3, true)) {
		t.Errorf("%d values of an image, want 512, and others of the flipped one", len(first.Of(3, false)))
	}
	cached := e
	cached.Backend = nil // nothing is computed
	if got := encode(cached, "latents: 40 were in "+dir+", 0 were encoded\n"); !reflect.DeepEqual(got, first) {
		t.Error("the cache gives other moments")
	}

	entries, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.safetensors"))
	if err != nil || len(entries) != 40 {
		t.Fatalf("%d entries, want 40 (%v)", len(entries), err)
	}
	raw, err := os.ReadFile(entries[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-5] ^= 1
	if err := os.WriteFile(entries[0], raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(entries[1], 100); err != nil {
		t.Fatal(err)
	}
	got := encode(e, "latents: 38 were in "+dir+", 2 were encoded\n",
		entries[0]+": its bytes are not those that were written", "encoded anew: "+entries[1])
	if !reflect.DeepEqual(got, first) {
		t.Error("mending the cache gives other moments")
	}
	encode(cached, "latents: 40 were in ")

	other := e
	changed := checkpoint.InMemory{}
	for key, v := range e.Weights.(checkpoint.InMemory) {
		changed[key] = slices.Clone(v)
	}
	changed["vae.encoder.conv_in.bias"][0]++
	other.Weights = changed
	if got := encode(other, "0 were in", "of another VAE"); reflect.DeepEqual(got, first) {
		t.Error("another VAE makes the same moments")
	}

	blocked := e
	blocked.CacheDir = filepath.Join(dir, "file")
	if err := os.WriteFile(blocked.CacheDir, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := blocked.Encode(context.Background(), dataset); err == nil ||
		strings.Count(err.Error(), "cache_dir: ") != 1 {
		t.Errorf("entries that cannot be written: %v, want one error of cache_dir", err)
	}
}

// Rows that no batch will hold are passed over: what is no image, and what is too oblong to be fitted.
func TestEncodeSkipsBadRows(t *testing.T) {
	e := smallEncoder(t)
	dir := t.TempDir()
	for i, size := range []struct{ width, height int }{{16, 16}, {400_000, 1}, {20, 18}} {
		if err := imaging.WritePNG(filepath.Join(dir, fmt.Sprintf("%d.png", i)),
			imaging.NewRGB(size.width, size.height)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "3.png"), []byte("no image"), 0o644); err != nil {
		t.Fatal(err)
	}
	columns := data.DefaultOptions()
	columns.NeedConditioning, columns.NoCaptions, columns.Resolution, columns.BatchSize = false, true, 16, 2
	dataset, err := data.Open([]string{dir}, columns)
	if err != nil {
		t.Fatal(err)
	}
	defer dataset.Close()
	m, err := e.Encode(context.Background(), dataset)
	if err != nil {
		t.Fatal(err)
	}
	for row, want := range []int{512, 0, 512, 0} {
		if got := len(m.Of(int64(row), false)); got != want {
			t.Errorf("row %d has %d values, want %d", row, got, want)
		}
	}
}
