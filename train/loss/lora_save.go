package loss

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
)

// The files of a LoRA: under diffusers' name and in its naming, and in that of kohya's sd-scripts.
const (
	LoRAFile      = "pytorch_lora_weights.safetensors"
	LoRAKohyaFile = "pytorch_lora_weights_kohya.safetensors"
)

// LoRAFormats are the namings that a LoRA is written in.
var LoRAFormats = []string{"diffusers", "kohya", "both"}

// Check fails if a target is no layer of the networks.
func (l LoRA) Check(networks nn.Tree) error {
	var missing []string
	for _, target := range append(slices.Clone(l.Targets), l.TextTargets...) {
		one := LoRA{Targets: []string{target}, TextTargets: []string{target}}
		if len(one.Layers(networks)) == 0 {
			missing = append(missing, target)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("lora_targets: the model has no layer %s", strings.Join(missing, ", "))
	}
	return nil
}

// Metadata is what a file in PEFT's naming needs beside the matrices, as diffusers writes it.
func (l LoRA) Metadata(networks nn.Tree) map[string]string {
	config := map[string]any{}
	for _, layer := range l.Layers(networks) {
		component, module, _ := strings.Cut(layer.Key, ".")
		config[component+".r"], config[component+".lora_alpha"] = l.Rank, l.Alpha
		modules, _ := config[component+".target_modules"].([]string)
		config[component+".target_modules"] = append(modules, checkpoint.PEFTModule(component, module))
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // strings and numbers
	}
	return map[string]string{checkpoint.LoRAMetadata: string(text)}
}

// Load reads the values to go on from out of a file of any naming, B so scaled that with l's alpha they change the
// layers as the file does. It fails unless the file has l's rank and layers.
func (l LoRA) Load(model *diffusers.Pipeline, networks nn.Tree, path string) (nn.Values, error) {
	file, err := model.OpenLoRA(path)
	if err != nil {
		return nil, err
	}
	if tokens := file.Tokens(); len(tokens) > 0 {
		return nil, fmt.Errorf("%s: it holds textual inversions (%s), which training a LoRA does not go on with: "+
			"take a file without them", file.Path,
			strings.Join(tokens, ", "))
	}
	found := map[string]diffusers.LoRALayer{}
	for _, layer := range file.Layers {
		found[layer.Path] = layer
	}
	var wrong, missing []string
	values := nn.Values{}
	for _, layer := range l.Layers(networks) {
		from, ok := found[layer.Key]
		if !ok {
			missing = append(missing, layer.Key)
			continue
		}
		delete(found, layer.Key)
		if rank := from.DownShape[len(from.DownShape)-1]; rank != l.Rank {
			wrong = append(wrong, fmt.Sprintf("rank: got %d, the file has %d for %s", l.Rank, rank, layer.Key))
		}
		a, b := l.Matrices(layer)
		scale := float32(from.Scale * float64(l.Rank) / l.Alpha)
		for i := range from.Up {
			from.Up[i] *= scale
		}
		values[a.Key], values[b.Key] = from.Down, from.Up
	}
	if n := len(wrong); n > 1 {
		wrong = append(wrong[:1], fmt.Sprintf("and %d layers more", n-1))
	}
	const advice = "(see lora_targets, train_conv, train_text_encoder)"
	if n := len(missing); n > 0 {
		wrong = append(wrong, fmt.Sprintf("layers to train that the file lacks: %d, the first %s %s",
			n, missing[0], advice))
	}
	if n := len(found); n > 0 {
		wrong = append(wrong, fmt.Sprintf("layers of the file that are not to be trained: %d, the first %s %s",
			n, slices.Sorted(maps.Keys(found))[0], advice))
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%s is of another LoRA:\n  %s", path, strings.Join(wrong, "\n  "))
	}
	return values, nil
}

// Save writes the result into a folder. The keys of values are those of PEFT's files.
func (l LoRA) Save(dir, format string, networks nn.Tree, values nn.Values) error {
	var layers []checkpoint.LoRALayer
	for _, layer := range l.Layers(networks) {
		component, module, _ := strings.Cut(layer.Key, ".")
		a, b := l.Matrices(layer)
		layers = append(layers, checkpoint.LoRALayer{
			Component: component, Module: module, Alpha: l.Alpha,
			Down: checkpoint.NewTensor(a, values[strings.TrimPrefix(a.Key, LoRAPlace+".")]),
			Up:   checkpoint.NewTensor(b, values[strings.TrimPrefix(b.Key, LoRAPlace+".")]),
		})
	}
	file := checkpoint.LoRA{
		Layers: layers, Metadata: maps.Clone(map[string]string{
			"ss_network_dim": fmt.Sprint(l.Rank), "ss_network_alpha": fmt.Sprint(l.Alpha),
		}),
	}
	if format != "kohya" {
		if err := file.Save(filepath.Join(dir, LoRAFile), checkpoint.DialectDiffusers, "F32"); err != nil {
			return err
		}
	}
	if format == "diffusers" {
		return nil
	}
	return file.Save(filepath.Join(dir, LoRAKohyaFile), checkpoint.DialectKohya, "F32")
}
