package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"limner/models/safetensors"
)

// Description says what a file or a folder is.
type Description struct {
	Path       string  `json:"path"`
	Format     string  `json:"format"` // safetensors, msgpack, or folder
	Kind       Kind    `json:"kind"`
	Dialect    Dialect `json:"dialect,omitempty"`
	Family     Family  `json:"family"`
	Inpainting bool    `json:"inpainting,omitempty"`
	Variant    string  `json:"variant,omitempty"` // see Variant; of the UNet
	// a whole model has EMA's weights too, which are passed over
	EMA        bool              `json:"ema,omitempty"`
	Difference bool              `json:"difference,omitempty"` // of a ControlNet to the model it was made for
	Reasons    []string          `json:"reasons,omitempty"`    // what led to the family
	Components []Part            `json:"components,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Tensors    []TensorInfo      `json:"tensors"`
}

// Part is one network of a description, or what a LoRA changes of one.
type Part struct {
	Name       string         `json:"name"`
	Parameters int            `json:"parameters"`
	DTypes     map[string]int `json:"dtypes"`              // parameters by dtype
	Structure  *Structure     `json:"structure,omitempty"` // what the weights tell of the config
	Layers     int            `json:"layers,omitempty"`    // of a LoRA
	Ranks      []int          `json:"ranks,omitempty"`     // of a LoRA
	Problem    string         `json:"problem,omitempty"`   // why the folder's weights cannot be read
}

// TensorInfo is a tensor of a description, as its file spells it.
type TensorInfo struct {
	Key   string `json:"key"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
}

// Describe says what a file is, or the folder of a component or of a whole model.
func Describe(path string) (Description, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Description{}, fmt.Errorf("describe: %w", err)
	}
	if info.IsDir() {
		return describeFolder(path)
	}
	c, err := openAny(path)
	if err != nil {
		return Description{}, err
	}
	d, err := c.describe()
	return d, errors.Join(err, c.Close())
}

func (c *Checkpoint) describe() (Description, error) {
	d := Description{
		Path: c.path, Format: c.Format, Kind: c.Kind, Dialect: c.Dialect, Family: c.Family, Inpainting: c.Inpainting,
		Variant: c.Variant, EMA: c.EMA,
		Difference: c.IsDifference(), Reasons: c.Reasons, Metadata: c.Metadata, Tensors: infos("", c.tensors),
	}
	if c.Kind == KindLoRA {
		l, err := c.lora()
		if err != nil {
			d.Components = []Part{{Name: "LoRA", Problem: err.Error()}}
			return d, nil
		}
		d.Family, d.Reasons = l.family()
		for _, component := range l.Components() {
			d.Components = append(d.Components, l.part(component))
		}
		return d, nil
	}
	for _, name := range c.Components() {
		d.Components = append(d.Components, c.parts[name].part(name))
	}
	return d, nil
}

// describeFolder describes the folder of a component, or each folder with weights in that of a model.
func describeFolder(dir string) (Description, error) {
	d := Description{
		Path: dir, Format: "folder", Kind: KindPipeline, Dialect: DialectDiffusers, Family: UnknownFamily,
		Tensors: []TensorInfo{},
	}
	if _, err := os.Stat(filepath.Join(dir, "model_index.json")); err != nil {
		m, err := OpenModel(dir)
		if err != nil {
			if file, fileErr := LoRAFile(dir); fileErr == nil {
				return Describe(file)
			}
			return d, err
		}
		d.Kind = KindComponent
		d.add("", m)
		return d, m.Close()
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return d, fmt.Errorf("describe: %w", err)
	}
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if !hasWeights(sub) {
			continue
		}
		m, err := OpenModel(sub)
		if err != nil {
			d.Components = append(d.Components, Part{Name: e.Name(), Problem: err.Error()})
			continue
		}
		d.add(e.Name(), m)
		if err := m.Close(); err != nil {
			return d, err
		}
	}
	return d, nil
}

// add takes up a component; those without a name get that of what they are.
func (d *Description) add(name string, m *Model) {
	prefix := name + "/"
	s, ok := m.Structure()
	if name == "" {
		prefix, name = "", string(KindUnknown)
		if ok {
			name = s.Component
		}
	}
	d.Components = append(d.Components, m.part(name))
	if family, reasons := s.guess(); d.Family == UnknownFamily || s.Component == UNet {
		d.Family, d.Reasons = family, reasons
	}
	d.Inpainting = d.Inpainting || s.Inpainting()
	if s.Component == UNet {
		d.Variant = Variant(s.InChannels)
	}
	d.Tensors = append(d.Tensors, infos(prefix, m.tensors)...)
}

// part counts a network's parameters.
func (m *Model) part(name string) Part {
	p := Part{Name: name, DTypes: map[string]int{}}
	for _, t := range m.tensors {
		p.count(t)
	}
	if s, ok := m.Structure(); ok {
		p.Structure = &s
	}
	return p
}

func (p *Part) count(t safetensors.Tensor) {
	p.Parameters += t.Size()
	p.DTypes[t.DType] += t.Size()
}

// part counts the parameters by which the LoRA changes a component.
func (l *LoRA) part(component string) Part {
	p := Part{Name: component, DTypes: map[string]int{}}
	for _, layer := range l.Layers {
		if layer.Component != component {
			continue
		}
		p.count(layer.Down)
		p.count(layer.Up)
		p.Layers++
		if !slices.Contains(p.Ranks, layer.Rank()) {
			p.Ranks = append(p.Ranks, layer.Rank())
		}
	}
	slices.Sort(p.Ranks)
	return p
}

func infos(prefix string, tensors map[string]safetensors.Tensor) []TensorInfo {
	all := make([]TensorInfo, 0, len(tensors))
	for key, t := range tensors {
		all = append(all, TensorInfo{Key: prefix + key, DType: t.DType, Shape: t.Shape})
	}
	slices.SortFunc(all, func(a, b TensorInfo) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return all
}
