package checkpoint

import (
	"bytes"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/models/safetensors"
)

// tinyModels are the folders of whole models and what they are.
var tinyModels = map[string]struct {
	family     Family
	components []string
	key        string // one that a single file must have; %d is the number of the text encoder's last layer
}{
	"sd15-tiny": {
		SD1, []string{UNet, VAE, TextEncoder}, "cond_stage_model.transformer.text_model.final_layer_norm.weight",
	},
	"sd21-tiny": {
		SD2, []string{UNet, VAE, TextEncoder}, "cond_stage_model.model.transformer.resblocks.%d.attn.in_proj_weight",
	},
	"sdxl-tiny": {SDXL, []string{UNet, VAE, TextEncoder, TextEncoder2},
		"conditioner.embedders.1.model.text_projection"},
}

// folder opens all components of a whole model.
func folder(t testing.TB, name string) map[string]*Model {
	t.Helper()
	components := map[string]*Model{}
	for _, c := range tinyModels[name].components {
		components[c] = openModel(t, golden.Path(t, name, c))
	}
	return components
}

func openFile(t testing.TB, path string) *Checkpoint {
	t.Helper()
	c, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// sameTensors compares the tensors of models bit by bit, under diffusers' keys of today.
func sameTensors(t *testing.T, got, want *Model) {
	t.Helper()
	has := map[string]string{}
	for _, key := range got.Keys() {
		has[strings.TrimPrefix(newName(key), textPrefix)] = key
	}
	n := 0
	for _, key := range want.Keys() {
		if unused(key) {
			continue
		}
		n++
		w := want.tensors[key]
		g, ok := got.tensors[has[strings.TrimPrefix(newName(key), textPrefix)]]
		if !ok || g.DType != w.DType || !slices.Equal(g.Shape, w.Shape) {
			t.Errorf("%s: got %s %v, want %s %v", key, g.DType, g.Shape, w.DType, w.Shape)
			continue
		}
		var scratch []byte
		data, err := g.Elements(w.DType, w.Order, &scratch)
		if err != nil || !bytes.Equal(data, bytesIn(t, w)) {
			t.Errorf("%s differs, %v", key, err)
		}
	}
	if len(has) != n {
		t.Errorf("got %d tensors, want %d", len(has), n)
	}
}

func TestGoldenSingleFile(t *testing.T) {
	for name, want := range tinyModels {
		t.Run(name, func(t *testing.T) {
			components := folder(t, name)
			path := filepath.Join(t.TempDir(), "model.safetensors")
			if err := SaveSingleFile(path, components, Marks{}, ""); err != nil {
				t.Fatal(err)
			}
			c := openFile(t, path)
			if c.Kind != KindPipeline || c.Family != want.family || c.Dialect != DialectLDM || c.Inpainting {
				t.Errorf("got %s, %s, %s, inpainting %v (%v)", c.Kind, c.Family, c.Dialect, c.Inpainting, c.Reasons)
			}
			if got := c.Components(); !slices.Equal(got, want.components) {
				t.Errorf("got components %v, want %v", got, want.components)
			}
			key := want.key
			if strings.Contains(key, "%d") {
				text, ok := components[TextEncoder].Structure()
				if !ok {
					t.Fatal("the text encoder has no structure")
				}
				key = fmt.Sprintf(key, text.NumHiddenLayers-1)
			}
			if _, ok := c.Tensor(key); !ok {
				t.Errorf("no %s", key)
			}
			for _, key := range c.Keys() {
				if i := slices.IndexFunc([]string{"down_blocks", "up_blocks", "resnets", "self_attn.q"},
					func(s string) bool {
						return strings.Contains(key, s) && !strings.Contains(key, ".transformer.text_model.")
					}); i >= 0 {
					t.Errorf("%s keeps diffusers' name", key)
				}
			}
			for component, model := range components {
				m, ok := c.Component(component)
				if !ok {
					t.Errorf("no %s", component)
					continue
				}
				sameTensors(t, m, model)
				got, _ := m.Structure()
				if from, _ := model.Structure(); !reflect.DeepEqual(got, from) {
					t.Errorf("%s: got structure %+v, want %+v", component, got, from)
				}
				tree := treeOf(t, model)
				want, values := load(t, model, tree), load(t, m, tree)
				for _, s := range tree {
					if !slices.Equal(values[s.Key], want[s.Key]) {
						t.Errorf("%s of %s differs when it is loaded", s.Key, component)
					}
				}
				again := filepath.Join(t.TempDir(), "again.safetensors")
				if err := SaveModelFile(again, m, ""); err != nil {
					t.Fatal(err)
				}
				sameTensors(t, openModelFile(t, again), model)
			}
		})
	}
}

func openModelFile(t testing.TB, path string) *Model {
	t.Helper()
	m, err := OpenModelFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestGoldenControlNetFile(t *testing.T) {
	for name := range tinyModels {
		t.Run(name, func(t *testing.T) {
			m := openModel(t, golden.Path(t, name, "controlnet"))
			dir := t.TempDir()
			path := filepath.Join(dir, "control.safetensors")
			if err := SaveControlNetFile(path, m, ""); err != nil {
				t.Fatal(err)
			}
			c := openFile(t, path)
			again, ok := c.Component(ControlNet)
			if !ok || c.Kind != KindComponent || c.Dialect != DialectLDM || c.Family != tinyModels[name].family {
				t.Fatalf("got %s, %s, %s with %v", c.Kind, c.Dialect, c.Family, c.Components())
			}
			sameTensors(t, again, m)

			// The same below control_model., as the first published files have it.
			var entries []safetensors.Entry
			for _, key := range c.Keys() {
				tensor, _ := c.Tensor(key)
				entries = append(entries, safetensors.Entry{
					Key: "control_model." + key, DType: tensor.DType, Shape: tensor.Shape, Data: bytesIn(t, tensor),
				})
			}
			if err := safetensors.Write(path, entries, nil); err != nil {
				t.Fatal(err)
			}
			sameTensors(t, openModelFile(t, path), m)
		})
	}
}
