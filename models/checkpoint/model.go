// Package checkpoint maps model files to named tensors and back: the key spellings of every format, Flax msgpack,
// LoRAs, conversion, and the change between a file's layout and memory's. safetensors files themselves are
// models/safetensors.
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

	"limner/models/safetensors"
)

// Model is the weights of one network (unet, vae, text_encoder, controlnet, …) under diffusers' keys,
// whatever file they came from: a component folder with one safetensors file, with shards or with
// Flax weights, or a part of a single-file checkpoint. Keys of other formats are translated when it is
// opened; older spellings of diffusers' own stay, and Load and Stream understand them.
type Model struct {
	path    string // for errors: the file, or the folder of the shards
	tensors map[string]safetensors.Tensor
	spelled map[string]string // how the file spells a key, where it differs
	release func() error
}

// OpenModel opens the weights of a component folder under the names that diffusers and transformers
// give them: diffusion_pytorch_model.safetensors or model.safetensors, then the same in shards, then
// their .fp16 and .bf16 variants, then Flax's. A folder that has only pickled weights (.bin, .ckpt, …)
// is an error that says how to obtain safetensors.
func OpenModel(dir string) (*Model, error) { return OpenVariant(dir, "") }

// OpenVariant is OpenModel, but takes weights of the given variant, such as fp16, before others. An empty
// one has no preference.
func OpenVariant(dir, variant string) (*Model, error) {
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
	variants := []string{"", ".fp16", ".bf16"}
	if variant != "" {
		variants = slices.Insert(variants, 0, "."+variant)
	}
	for _, variant := range variants {
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
	for _, name := range []string{"diffusion_flax_model.msgpack", "flax_model.msgpack"} {
		if present[name] {
			return OpenModelFile(filepath.Join(dir, name))
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

// unpickle says why pickled weights are not read, and what to do.
const unpickle = "which are never loaded because they can run code: " +
	"take the .safetensors file of the same model, or convert the whole model once with Python's diffusers: " +
	"DiffusionPipeline.from_pretrained(IN, use_safetensors=False).save_pretrained(OUT, safe_serialization=True)"

// explainAbsence says what a folder without known weights has instead.
func explainAbsence(names []string) string {
	var other []string
	for _, name := range names {
		switch filepath.Ext(name) {
		case ".bin", ".ckpt", ".pt", ".pth":
			return fmt.Sprintf("has only pickled weights (%s), %s", name, unpickle)
		case ".safetensors", ".msgpack":
			other = append(other, name)
		}
	}
	if len(other) > 0 {
		return fmt.Sprintf("has %s, want diffusion_pytorch_model.safetensors or model.safetensors",
			strings.Join(other, ", "))
	}
	return "has no diffusion_pytorch_model.safetensors and no model.safetensors"
}

// OpenModelFile opens a single file that holds one network. A safetensors file whose keys are of no
// known kind is a model with those keys.
func OpenModelFile(path string) (*Model, error) {
	c, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	m, err := c.only()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	m.release = c.Close
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
	files, err := openFiles(path, slices.Compact(slices.Sorted(maps.Values(content.WeightMap))))
	release := func() error {
		var all []error
		for _, f := range files {
			all = append(all, f.Close())
		}
		return errors.Join(all...)
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	m := &Model{path: dir, tensors: map[string]safetensors.Tensor{}, release: release}
	if err := m.addShards(path, files, content.WeightMap); err != nil {
		return nil, errors.Join(err, release())
	}
	if s, _ := m.Structure(); s.Component == ControlNet && content.WeightMap[differenceKey] != "" {
		return nil, errors.Join(fmt.Errorf("open model %s: %s", dir, explainDifference), release())
	}
	return m, nil
}

// openFiles opens the shards of an index. The files that were opened before an error come with it.
func openFiles(index string, shards []string) ([]*safetensors.File, error) {
	dir := filepath.Dir(index)
	var files []*safetensors.File
	for _, name := range shards {
		if name != filepath.Base(name) || !filepath.IsLocal(name) {
			return files, fmt.Errorf("load %s: shard %q is outside the folder", index, name)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return files, fmt.Errorf("load %s: shard %s is missing (%d shards in all)", index, name, len(shards))
		}
		f, err := safetensors.Open(filepath.Join(dir, name))
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

// addShards takes up the tensors of all files, which must be as the index says.
func (m *Model) addShards(index string, files []*safetensors.File, weightMap map[string]string) error {
	home := map[string]string{} // by key
	for _, f := range files {
		for _, key := range f.Keys() {
			if other, ok := home[key]; ok {
				return fmt.Errorf("load %s: %q is also in %s", f.Path(), key, other)
			}
			home[key] = filepath.Base(f.Path())
			m.tensors[key], _ = f.Tensor(key)
		}
	}
	var absent []string
	for _, key := range slices.Sorted(maps.Keys(weightMap)) {
		if home[key] != weightMap[key] {
			absent = append(absent, fmt.Sprintf("missing in %s: %s", weightMap[key], key))
		}
	}
	if len(absent) > 0 {
		return fmt.Errorf("load %s: %d keys are not where the index says:%s", index, len(absent), list(absent))
	}
	return nil
}

// Keys lists the keys in alphabetical order.
func (m *Model) Keys() []string { return slices.Sorted(maps.Keys(m.tensors)) }

// Tensor finds a tensor by its key.
func (m *Model) Tensor(key string) (safetensors.Tensor, bool) {
	t, ok := m.tensors[key]
	return t, ok
}

// Path is the file or the folder that the model was opened from.
func (m *Model) Path() string { return m.path }

// spelling is how the file spells a key.
func (m *Model) spelling(key string) string {
	if s, ok := m.spelled[key]; ok {
		return s
	}
	return key
}

// Close closes the files. What Load returned stays valid. The models of a Checkpoint's components
// leave their file to it.
func (m *Model) Close() error {
	release := m.release
	m.tensors, m.release = nil, nil
	if release == nil {
		return nil
	}
	return release()
}
