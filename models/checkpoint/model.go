package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Model is the weights of one component folder (unet, vae, text_encoder, controlnet, …): one
// safetensors file or several shards.
type Model struct {
	path  string // for errors: the file, or the folder of the shards
	files []*File
	home  map[string]*File // by key
}

// OpenModel opens the weights of a component folder under the names that diffusers and transformers
// give them: diffusion_pytorch_model.safetensors or model.safetensors, then the same in shards, then
// their .fp16 and .bf16 variants. A folder that has only pickled weights (.bin, .ckpt, …) is an
// error that says how to obtain safetensors.
func OpenModel(dir string) (*Model, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no model folder at %s", dir)
	case err != nil:
		return nil, fmt.Errorf("open model: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("open model %s: a file, want the folder of a component", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	present := map[string]bool{}
	for _, e := range entries {
		present[e.Name()] = true
	}
	for _, variant := range []string{"", ".fp16", ".bf16"} {
		for _, base := range []string{"diffusion_pytorch_model", "model"} {
			if name := base + variant + ".safetensors"; present[name] {
				return OpenModelFile(filepath.Join(dir, name))
			}
			for _, name := range indexNames(base, variant) {
				if present[name] {
					return openShards(dir, name)
				}
			}
		}
	}
	return nil, fmt.Errorf("open model %s: %s", dir, explainAbsence(slices.Sorted(maps.Keys(present))))
}

// indexNames lists how the index of a sharded model has been called.
func indexNames(base, variant string) []string {
	if variant == "" {
		return []string{base + ".safetensors.index.json"}
	}
	return []string{
		base + ".safetensors.index" + variant + ".json",
		base + ".safetensors" + variant + ".index.json",
		base + variant + ".safetensors.index.json",
	}
}

// explainAbsence says what a folder without known weights has instead.
func explainAbsence(names []string) string {
	var other []string
	for _, name := range names {
		switch filepath.Ext(name) {
		case ".bin", ".ckpt", ".pt", ".pth":
			return fmt.Sprintf("has only pickled weights (%s), which are never loaded because they can run code: "+
				"take the .safetensors file of the same model, or convert the whole model once with Python's diffusers: "+
				"DiffusionPipeline.from_pretrained(IN, use_safetensors=False).save_pretrained(OUT, safe_serialization=True)", name)
		case ".msgpack":
			return fmt.Sprintf("has only Flax weights (%s): take the .safetensors file of the same model", name)
		case ".safetensors":
			other = append(other, name)
		}
	}
	if len(other) > 0 {
		return fmt.Sprintf("has %s, want diffusion_pytorch_model.safetensors or model.safetensors", strings.Join(other, ", "))
	}
	return "has no diffusion_pytorch_model.safetensors and no model.safetensors"
}

// OpenModelFile opens a single safetensors file as a model.
func OpenModelFile(path string) (*Model, error) {
	m := &Model{path: path, home: map[string]*File{}}
	if err := m.add(path); err != nil {
		return nil, err
	}
	return m, nil
}

// openShards opens the files that an index names, and checks that each key is where the index says.
func openShards(dir, index string) (*Model, error) {
	path := filepath.Join(dir, index)
	var content struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := ReadConfig(path, &content); err != nil {
		return nil, err
	}
	if len(content.WeightMap) == 0 {
		return nil, fmt.Errorf("load %s: weight_map is missing or empty", path)
	}
	m := &Model{path: dir, home: map[string]*File{}}
	if err := m.addShards(path, content.WeightMap); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Model) addShards(index string, weightMap map[string]string) error {
	dir := filepath.Dir(index)
	shards := slices.Compact(slices.Sorted(maps.Values(weightMap)))
	for _, name := range shards {
		if name != filepath.Base(name) || !filepath.IsLocal(name) {
			return fmt.Errorf("load %s: shard %q is outside the folder", index, name)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("load %s: shard %s is missing (%d shards in all)", index, name, len(shards))
		}
		if err := m.add(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	var absent []string
	for _, key := range slices.Sorted(maps.Keys(weightMap)) {
		if f := m.home[key]; f == nil || filepath.Base(f.path) != weightMap[key] {
			absent = append(absent, fmt.Sprintf("\n  missing in %s: %s", weightMap[key], key))
		}
	}
	if len(absent) > 0 {
		return fmt.Errorf("load %s: %d keys are not where the index says:%s", index, len(absent), strings.Join(absent, ""))
	}
	return nil
}

// add opens a file and takes up its tensors.
func (m *Model) add(path string) error {
	f, err := Open(path)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	for _, key := range f.keys {
		if other := m.home[key]; other != nil {
			return fmt.Errorf("load %s: %q is also in %s", path, key, filepath.Base(other.path))
		}
		m.home[key] = f
	}
	return nil
}

// Keys lists the keys of all shards in alphabetical order, as the files spell them.
func (m *Model) Keys() []string { return slices.Sorted(maps.Keys(m.home)) }

// Tensor finds a tensor by its key in the files.
func (m *Model) Tensor(key string) (Tensor, bool) {
	f, ok := m.home[key]
	if !ok {
		return Tensor{}, false
	}
	return f.Tensor(key)
}

// Close unmaps the files. What Load returned stays valid.
func (m *Model) Close() error {
	var all []error
	for _, f := range m.files {
		all = append(all, f.Close())
	}
	m.files, m.home = nil, nil
	return errors.Join(all...)
}
