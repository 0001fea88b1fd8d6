package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"limner/models/nn"
	"limner/models/safetensors"
)

// LoRA holds changes of low rank to the layers of networks (Hu et al. 2021, arXiv:2106.09685), from a file
// in the naming of diffusers, PEFT or kohya's sd-scripts. A changed layer computes with
// W + scale·alpha/rank·up·down, where scale is the user's.
type LoRA struct {
	Dialect  Dialect
	Metadata map[string]string
	Layers   []LoRALayer // sorted by component and module
	// Embeddings are the textual inversions that the file holds beside, as the LoRA was trained with them.
	Embeddings []Embedding

	path    string
	release func() error
}

// LoRALayer is the change to one linear layer or convolution.
type LoRALayer struct {
	Component string             // UNet, TextEncoder or TextEncoder2
	Module    string             // the layer's name in diffusers, without .weight
	Down      safetensors.Tensor // [rank, in] or [rank, in, height, width]
	Up        safetensors.Tensor // [out, rank] or [out, rank, 1, 1]
	Alpha     float64            // the rank where the file has none

	kohya string // the name with underscores, where the file has that
	named string // Module without a prefix that the file leaves out, as PEFT's config has it
}

// Rank is the number of rows of Down.
func (l LoRALayer) Rank() int { return l.Down.Shape[0] }

// Scale is Alpha/Rank, by which the change is multiplied beside the user's scale.
func (l LoRALayer) Scale() float64 { return l.Alpha / float64(l.Rank()) }

// OpenLoRA opens a LoRA in any of its dialects: a file, or a folder that LoRAFile finds it in. What is no plain LoRA
// (LoHa, LoKr, DoRA, Tucker decompositions, whole differences) is an error that names it. Names with underscores are
// put into dots by the words they are made of; Check does so by the network's own.
func OpenLoRA(path string) (*LoRA, error) {
	path, err := LoRAFile(path)
	if err != nil {
		return nil, err
	}
	c, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	l, err := c.lora()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open LoRA %s: %w", path, err), c.Close())
	}
	return l, nil
}

func (c *Checkpoint) lora() (*LoRA, error) {
	if c.Kind != KindLoRA {
		return nil, fmt.Errorf("holds no LoRA but: %s", c.What())
	}
	l := &LoRA{Dialect: c.Dialect, Metadata: c.Metadata, path: c.path, release: c.release}
	fields, err := readPEFTFields(c.Metadata, c.path)
	if err != nil {
		return nil, err
	}
	if l.Embeddings, err = bundled(c.tensors); err != nil {
		return nil, err
	}
	type place struct{ component, module string }
	layers := map[place]*LoRALayer{}
	var unsupported []string
	for _, key := range slices.Sorted(maps.Keys(c.tensors)) {
		if strings.HasPrefix(key, bundlePrefix) {
			continue
		}
		k := parseLoRAKey(key)
		if k.role == loraUnknown {
			unsupported = append(unsupported, key+": "+explainLoRAKey(key))
			continue
		}
		at := place{k.component, k.module}
		layer := layers[at]
		if layer == nil {
			layer = &LoRALayer{
				Component: k.component, Module: k.module, Alpha: math.NaN(), kohya: k.kohya, named: k.named,
			}
			layers[at] = layer
		}
		if err := layer.set(k.role, c.tensors[key]); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if len(unsupported) > 0 {
		return nil, fmt.Errorf("%d tensors are not supported:%s", len(unsupported), list(unsupported))
	}
	for _, layer := range layers {
		if err := layer.check(); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", layer.Module, layer.Component, err)
		}
		l.Layers = append(l.Layers, *layer)
	}
	l.sort()
	return l, l.setAlphas(fields)
}

// setAlphas gives the layers whose alpha is no tensor of the file the one that PEFT's config says.
func (l *LoRA) setAlphas(fields peftFields) error {
	configs := map[string]*peftConfig{}
	for i, layer := range l.Layers {
		if !math.IsNaN(layer.Alpha) {
			continue
		}
		config, ok := configs[layer.Component]
		if !ok {
			var err error
			if config, err = fields.config(layer.Component); err != nil {
				return err
			}
			configs[layer.Component] = config
		}
		alpha, err := config.alphaOf(layer.named, layer.Rank())
		if err != nil {
			return fmt.Errorf("%s of %s: %w", layer.Module, layer.Component, err)
		}
		l.Layers[i].Alpha = alpha
	}
	return nil
}

func (l *LoRA) sort() {
	slices.SortFunc(l.Layers, func(a, b LoRALayer) int {
		if c := strings.Compare(a.Component, b.Component); c != 0 {
			return c
		}
		return strings.Compare(a.Module, b.Module)
	})
}

// set takes up one tensor of a layer.
func (l *LoRALayer) set(role loraRole, t safetensors.Tensor) error {
	switch role {
	case loraAlpha:
		v, err := t.Float32s()
		if err != nil {
			return err
		}
		if len(v) != 1 || math.IsNaN(float64(v[0])) || math.IsInf(float64(v[0]), 0) {
			return fmt.Errorf("got %v, want one number", t.Shape)
		}
		l.Alpha = float64(v[0])
	case loraDown:
		if l.Down.DType != "" {
			return errors.New("the layer has a second one")
		}
		l.Down = t
	case loraUp:
		if l.Up.DType != "" {
			return errors.New("the layer has a second one")
		}
		l.Up = t
	}
	return nil
}

// check fails unless down and up are there and go together.
func (l *LoRALayer) check() error {
	switch d, u := l.Down, l.Up; {
	case d.DType == "" && u.DType == "":
		return errors.New("has an alpha, but neither down nor up")
	case d.DType == "":
		return errors.New("down is missing")
	case u.DType == "":
		return errors.New("up is missing")
	case !safetensors.IsFloat(d.DType) || !safetensors.IsFloat(u.DType):
		return fmt.Errorf("got %s and %s, want F32, F16, BF16 or F64", d.DType, u.DType)
	case len(d.Shape) != 2 && len(d.Shape) != 4 || d.Size() == 0:
		return fmt.Errorf("down is %v, want [rank, in] or [rank, in, height, width]", d.Shape)
	case len(withoutPixels(u).Shape) != 2 || u.Size() == 0:
		return fmt.Errorf("up is %v, want [out, rank] or [out, rank, 1, 1]", u.Shape)
	case u.Shape[1] != d.Shape[0]:
		return fmt.Errorf("up %v and down %v differ in rank", u.Shape, d.Shape)
	}
	return nil
}

// explainLoRAKey says what kind of change a key belongs to that is no plain LoRA.
func explainLoRAKey(key string) string {
	for _, k := range []struct{ mark, name string }{
		{"hada_", "LoHa"}, {"lokr_", "LoKr"}, {"dora_scale", "DoRA"}, {"lora_magnitude_vector", "DoRA"},
		{"lora_mid", "a Tucker decomposition"}, {"oft_", "OFT"}, {".diff", "a whole difference"}, {".bias", "a bias"},
	} {
		if strings.Contains(key, k.mark) {
			return k.name
		}
	}
	return "no part of a LoRA"
}

// Components lists the networks that the LoRA changes.
func (l *LoRA) Components() []string {
	var all []string
	for _, layer := range l.Layers {
		if !slices.Contains(all, layer.Component) {
			all = append(all, layer.Component)
		}
	}
	return all
}

// Path is the file that the LoRA was opened from.
func (l *LoRA) Path() string { return l.path }

// Close unmaps the file.
func (l *LoRA) Close() error {
	release := l.release
	l.release, l.Layers, l.Embeddings = nil, nil, nil
	if release == nil {
		return nil
	}
	return release()
}

// layer finds the change to a parameter.
func (l *LoRA) layer(component string, s nn.Spec) (LoRALayer, bool) {
	module, ok := strings.CutSuffix(s.Key, ".weight")
	if !ok {
		return LoRALayer{}, false
	}
	i := slices.IndexFunc(l.Layers, func(layer LoRALayer) bool {
		return layer.Component == component && layer.Module == module
	})
	if i < 0 {
		return LoRALayer{}, false
	}
	return l.Layers[i], true
}

// family tells which family's networks the LoRA is for, by the width of the text that its layers read.
func (l *LoRA) family() (Family, []string) {
	for _, layer := range l.Layers {
		if layer.Component != UNet || !strings.HasSuffix(layer.Module, ".attn2.to_k") {
			continue
		}
		width := layer.Down.Shape[1]
		if family, ok := map[int]Family{768: SD1, 1024: SD2, 2048: SDXL, 1280: SDXLRefiner}[width]; ok {
			return family, []string{fmt.Sprintf("%s reads text of width %d", layer.Module, width)}
		}
	}
	if slices.Contains(l.Components(), TextEncoder2) {
		return SDXL, []string{"it changes a second text encoder"}
	}
	return UnknownFamily, nil
}
