package batch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/models/clip"
	"limner/sample"
)

func TestLoRATags(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"x.safetensors", "twin.safetensors", "more/y.v2.safetensors", "more/twin.safetensors", "notes.txt",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deep := t.TempDir()
	if err := os.MkdirAll(filepath.Join(deep, "1/2/3/4/5/6/7/8/9"), 0o755); err != nil {
		t.Fatal(err)
	}
	x, y := filepath.Join(dir, "x.safetensors"), filepath.Join(dir, "more", "y.v2.safetensors")
	for _, c := range []struct {
		name    string
		prompts []string
		change  func(*Options)
		loras   []string
		scales  [][]float64 // by prompt
		texts   []string
		err     string
	}{
		{
			name: "none", prompts: []string{"a"}, loras: []string{"/l/a.safetensors"}, scales: [][]float64{nil},
			texts: []string{"a"},
		},
		{
			name: "given", prompts: []string{"a <lora:a:0.8>cat", "b"}, loras: []string{"/l/a.safetensors"},
			scales: [][]float64{{0.8}, nil}, texts: []string{"a cat", "b"},
		},
		{
			name: "of the folder", prompts: []string{"<lora:x>c <lora:a:0.5>", "d", "e<lora:y.v2:-2>"},
			loras: []string{"/l/a.safetensors", y, x}, scales: [][]float64{{0.5, 0, 1}, {1, 0, 0}, {1, -2, 0}},
			texts: []string{"c ", "d", "e"},
		},
		{
			name: "beside --lora_scale", prompts: []string{"c<lora:x:2>"},
			change: func(c *Options) { c.LoRAScale = []float64{0.3} }, loras: []string{"/l/a.safetensors", x},
			scales: [][]float64{{0.3, 2}}, texts: []string{"c"},
		},
		{name: "unknown", prompts: []string{"<lora:xx:1>"}, err: `no LoRA "xx" (is it x?); known: a, twin, x, y.v2`},
		{name: "a path", prompts: []string{"<lora:more/y.v2:1>"}, err: `no LoRA "more/y.v2"`},
		{name: "twins", prompts: []string{"<lora:twin:1>"}, err: `2 LoRAs have the name "twin"`},
		{
			name: "plain", prompts: []string{"c <lora:x:1>"}, change: func(c *Options) { c.PromptStyle = "plain" },
			err: "--prompt_style a1111 applies",
		},
		{
			name: "negative", prompts: []string{
				"c",
			}, change: func(c *Options) { bad := "<lora:x:1>"; c.NegativePrompt = &bad },
			err: "--negative_prompt names a LoRA",
		},
		{name: "too far", prompts: []string{"c <lora:x:1e9>"}, err: "--lora_scale 1e+09: want"},
		{
			name: "none given", prompts: []string{"<lora:x:1>"},
			change: func(c *Options) { c.LoRA, c.LoRADir = nil, "" }, err: `no LoRA "x": give it by --lora`,
		},
		{
			name: "too deep", prompts: []string{"c"}, change: func(c *Options) { c.LoRADir = deep },
			err: "more than 8 folders deep: give the folder",
		},
		{
			name: "no folder", prompts: []string{"c"}, change: func(c *Options) { c.LoRADir = "nowhere" },
			err: "--lora_dir nowhere: ",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := &Options{Settings: Settings{
				Prompt: c.prompts, LoRA: []string{"/l/a.safetensors"},
				Encoding: sample.Encoding{PromptStyle: clip.A1111}, Denoising: sample.Denoising{NumInferenceSteps: 1},
			}, Outputs: Outputs{NumImages: 1}, LoRADir: dir}
			if c.change != nil {
				c.change(command)
			}
			work, err := command.list()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(command.LoRA, c.loras) {
				t.Errorf("the model has %q, want %q", command.LoRA, c.loras)
			}
			for i, j := range work {
				if !slices.Equal(j.LoRA, c.loras) || !slices.Equal(j.LoRAScale, c.scales[i]) ||
					j.text() != c.texts[i] || j.Prompt[0] != c.prompts[i] {
					t.Errorf("image %d: %q at %v, text %q of %q", i, j.LoRA, j.LoRAScale, j.text(), j.Prompt)
				}
			}
		})
	}
}
