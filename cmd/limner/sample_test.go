package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"limner/data/imaging"
	"limner/internal/golden"
	"limner/models/safetensors"
	"limner/sample/batch"
)

func readFile(t *testing.T, parts ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// An image carries its recipe: another run repeats it to the bit, and its latents begin where they were saved.
func TestSampleAndRepeat(t *testing.T) {
	model, dir := golden.Path(t, "sd15-tiny"), t.TempDir()
	stdout, stderr, code := limner(t, dir, "sample", "--model", model, "--prompt", "a, b", "--prompt", "猫",
		"--num_images", "2", "--num_inference_steps", "3", "--guidance_scale", "1", "--seed", "5", "--batch_size", "2",
		"--scheduler", "EulerAncestralDiscreteScheduler", "--save_latents", "--preview_steps",
		"1", "--output_dir", "out")
	if code != 0 || !strings.Contains(stdout, "image-00001.png  seed 6  a, b\n") ||
		!strings.Contains(stderr, "sampling: 6 of 6") {
		t.Fatalf("exit code %d, output %q, log %q", code, stdout, stderr)
	}
	for name, want := range map[string]string{
		"image-00003.png": "64×64", "grid.png": "152×152", "previews/image-00003-step-0002.png": "64×64",
	} {
		m, err := imaging.Decode(readFile(t, dir, "out", name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d×%d", m.Width, m.Height); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	f, err := safetensors.Open(filepath.Join(dir, "out", "latents.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if latents, ok := f.Tensor("latents"); !ok || !slices.Equal(latents.Shape, []int{4, 4, 8, 8}) {
		t.Errorf("latents: %v", latents.Shape)
	}

	stdout, _, code = limner(t, dir, "show", "out/image-00003.png")
	for _, want := range []string{
		"猫\n", "Steps: 3, Sampler: Euler a, CFG scale: 1, Seed: 8, Size: 64x64, Model: sd15-tiny", `"scheduler": "euler_a"`,
	} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("show: exit code %d, %q is not in %s", code, want, stdout)
		}
	}
	_, stderr, code = limner(t, dir, "sample", "--like", "out/image-00003.png", "--output_dir", "again")
	if want := "\n  limner sample --like out/image-00003.png --output-dir again --pretrained_model_name_or_path " +
		"PATH/sd15-tiny\n"; code != exitUsage || !strings.Contains(stderr, want) {
		t.Fatalf("without a model: exit code %d, want %q in %q", code, want, stderr)
	}
	if _, stderr, code := limner(t, dir, "sample", "--like", "out/image-00003.png", "--model", model,
		"--output_dir", "again"); code != 0 {
		t.Fatal(stderr)
	}
	if !bytes.Equal(readFile(t, dir, "again", "image-00000.png"), readFile(t, dir, "out", "image-00003.png")) {
		t.Error("the repeated image is another")
	}
	sampleFromExecutable(t, dir, string(readFile(t, dir, "again", "image-00000.png")))
	own := parseSample(t, "--prompt", "x", "--output_dir", filepath.Join(dir, "out")).Options
	if _, err := batch.New(own, batch.Host{}); err != nil {
		t.Errorf("its own folder: %v", err)
	}
}

// sampleFromExecutable repeats the image by the denoising step that was used last; the other programs are compiled.
func sampleFromExecutable(t *testing.T, dir, want string) {
	t.Helper()
	steps, err := filepath.Glob(filepath.Join(compiled, "denoise-*"))
	if err != nil || len(steps) == 0 {
		t.Fatalf("the cache has %v (%v), want a denoising step", steps, err)
	}
	slices.SortFunc(steps, func(a, b string) int { return lastUse(t, a).Compare(lastUse(t, b)) })
	_, log, code := limner(t, dir, "sample", "--like", "out/image-00003.png", "--model", golden.Path(t, "sd15-tiny"),
		"--output_dir", "loaded", "--compilation_cache_dir", "off", "--executable", steps[len(steps)-1])
	for _, says := range []string{
		"loading the denoising step (batch 2", "no executable of decode was brought along, only of denoise\n",
		"compiling the image decoder",
	} {
		if code != 0 || !strings.Contains(log, says) {
			t.Errorf("exit code %d, want %q in %s", code, says, log)
		}
	}
	if string(readFile(t, dir, "loaded", "image-00000.png")) != want {
		t.Error("a loaded step sampled another image")
	}
}

// lastUse is when a program of the cache was compiled or loaded.
func lastUse(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

func TestPictureSequence(t *testing.T) {
	png := bytes.Repeat([]byte("limner"), 1000)
	kitty := pictureSequence("kitty", png)
	if n := strings.Count(kitty, "\x1b_G"); n != 2 || !strings.HasPrefix(kitty, "\x1b_Gf=100,a=T,m=1;") ||
		!strings.Contains(kitty, "\x1b_Gm=0;") {
		t.Errorf("kitty: %d chunks", n)
	}
	if s := pictureSequence("iterm2", png); !strings.HasPrefix(s, "\x1b]1337;File=inline=1;size=6000:") ||
		!strings.HasSuffix(s, "\a") {
		t.Error("iterm2")
	}
	for name, want := range map[string]string{
		"TERM_PROGRAM=WezTerm": "iterm2", "TERM=xterm-kitty": "kitty", "TERM=xterm": "",
	} {
		key, value, _ := strings.Cut(name, "=")
		if got := pictureProtocol(func(k string) string {
			if k == key {
				return value
			}
			return ""
		}); got != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestSheet(t *testing.T) {
	model, dir := golden.Path(t, "sd15-tiny"), t.TempDir()
	_, stderr, code := limner(t, dir, "sample", "--model", model, "--prompt", "<a> & b", "--xy", "steps=1,2",
		"prompt=a, b|c", "--guidance_scale", "1", "--output_format", "jpeg", "--output_dir", "out")
	if code != 0 {
		t.Fatal(stderr)
	}
	page := string(readFile(t, dir, "out", "xy.html"))
	for _, want := range []string{"<h1>&lt;a&gt; &amp; b</h1>", `<th scope="col">steps 2</th>`, `<th scope="row">prompt a, b</th>`, `title="steps 1 prompt c"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	if n := strings.Count(page, "data:image/png;base64,"); n != 4 {
		t.Errorf("%d images on the page", n)
	}
	texts, err := imaging.Texts(readFile(t, dir, "out", "image-00002.jpeg"))
	if err != nil || len(texts) != 2 || !strings.HasPrefix(texts[1].Value, "c\nSteps: 1,") {
		t.Errorf("got %q, %v", texts, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "xy.png")); err != nil {
		t.Error(err)
	}
}
