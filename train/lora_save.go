package train

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"limner/models/checkpoint"
	"limner/models/nn"
)

// The files of a LoRA: under diffusers' name and in its naming, and in that of kohya's sd-scripts.
const (
	loraFile      = "pytorch_lora_weights.safetensors"
	loraKohyaFile = "pytorch_lora_weights_kohya.safetensors"
)

// LoRAFormats are the namings that a LoRA is written in.
var LoRAFormats = []string{"diffusers", "kohya", "both"}

// check fails if a target is no layer of the networks.
func (l LoRA) check(networks nn.Tree) error {
	var missing []string
	for _, target := range append(slices.Clone(l.Targets), l.TextTargets...) {
		one := LoRA{Targets: []string{target}, TextTargets: []string{target}}
		if len(one.layers(networks)) == 0 {
			missing = append(missing, target)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("lora_targets: the model has no layer %s", strings.Join(missing, ", "))
	}
	return nil
}

// metadata is what a file in PEFT's naming needs beside the matrices, as diffusers writes it.
func (l LoRA) metadata(networks nn.Tree) map[string]string {
	config := map[string]any{}
	for _, layer := range l.layers(networks) {
		component, module, _ := strings.Cut(layer.Key, ".")
		config[component+".r"], config[component+".lora_alpha"] = l.Rank, l.Alpha
		modules, _ := config[component+".target_modules"].([]string)
		config[component+".target_modules"] = append(modules, module)
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // strings and numbers
	}
	return map[string]string{checkpoint.LoRAMetadata: string(text)}
}

// save writes the result into a folder. The keys of values are those of PEFT's files.
func (l LoRA) save(dir, format string, networks nn.Tree, values nn.Values) error {
	var layers []checkpoint.LoRALayer
	for _, layer := range l.layers(networks) {
		component, module, _ := strings.Cut(layer.Key, ".")
		a, b := l.matrices(layer)
		layers = append(layers, checkpoint.LoRALayer{
			Component: component, Module: module, Alpha: l.Alpha,
			Down: checkpoint.NewTensor(a, values[strings.TrimPrefix(a.Key, loraPlace+".")]),
			Up:   checkpoint.NewTensor(b, values[strings.TrimPrefix(b.Key, loraPlace+".")]),
		})
	}
	file := checkpoint.LoRA{Layers: layers, Metadata: maps.Clone(map[string]string{"ss_network_dim": fmt.Sprint(l.Rank), "ss_network_alpha": fmt.Sprint(l.Alpha)})}
	if format != "kohya" {
		if err := file.Save(filepath.Join(dir, loraFile), checkpoint.DialectDiffusers, "F32"); err != nil {
			return err
		}
	}
	if format == "diffusers" {
		return nil
	}
	return file.Save(filepath.Join(dir, loraKohyaFile), checkpoint.DialectKohya, "F32")
}
