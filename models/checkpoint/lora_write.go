package checkpoint

import (
	"encoding/json"
	"fmt"
	"maps"

	"limner/models/safetensors"
)

// Save writes the LoRA to path in the naming of DialectDiffusers, DialectPEFT or DialectKohya. dtype is F32,
// F16, BF16 or F64; "" keeps each tensor's own. diffusers' naming has no alpha and loads with alpha = rank, so
// up is multiplied by alpha/rank there; PEFT's keeps it in the metadata as diffusers does, kohya's as a tensor. Only
// kohya's has a place for Embeddings.
func (l *LoRA) Save(path string, dialect Dialect, dtype string) error {
	if err := checkDType(dtype); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	metadata := maps.Clone(l.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	delete(metadata, LoRAMetadata)
	metadata["format"] = "pt"
	var entries []safetensors.Entry
	for _, layer := range l.Layers {
		var err error
		var more []safetensors.Entry
		switch dialect {
		case DialectDiffusers:
			more, err = layer.diffusersEntries(dtype)
		case DialectPEFT:
			name := layer.Component + "." + layer.Module
			more = []safetensors.Entry{
				entryOf(name+".lora_A.weight", layer.Down, dtype), entryOf(name+".lora_B.weight", layer.Up, dtype),
			}
		case DialectKohya:
			more = l.kohyaEntries(layer, dtype)
		default:
			err = fmt.Errorf("a LoRA cannot be written in the naming of %q", dialect)
		}
		if err != nil {
			return fmt.Errorf("save %s: %w", path, err)
		}
		entries = append(entries, more...)
	}
	if dialect == DialectKohya {
		for _, e := range l.Embeddings {
			for key, t := range e.tensors {
				entries = append(entries, entryOf(bundlePrefix+e.Token+"."+key, t, dtype))
			}
		}
	}
	if dialect == DialectPEFT {
		text, err := json.Marshal(l.newPEFTFields())
		if err != nil {
			return fmt.Errorf("save %s: %w", path, err)
		}
		metadata[LoRAMetadata] = string(text)
	}
	return safetensors.Write(path, entries, metadata)
}

func (l LoRALayer) diffusersEntries(dtype string) ([]safetensors.Entry, error) {
	name := l.Component + "." + l.Module + ".lora"
	if l.Component != UNet {
		name += "_linear_layer" // by which alone diffusers knows the naming of a text encoder's layers
	}
	up := entryOf(name+".up.weight", l.Up, dtype)
	if scale := l.Scale(); scale != 1 {
		values, err := l.Up.Float32s()
		if err != nil {
			return nil, err
		}
		for i := range values {
			values[i] *= float32(scale)
		}
		up.Parts = []safetensors.Tensor{safetensors.Floats(l.Up.Shape, values, l.Up.Order)}
	}
	return []safetensors.Entry{entryOf(name+".down.weight", l.Down, dtype), up}, nil
}

func (l *LoRA) kohyaEntries(layer LoRALayer, dtype string) []safetensors.Entry {
	prefix := map[string]string{UNet: "lora_unet_", TextEncoder: "lora_te_", TextEncoder2: "lora_te2_"}[layer.Component]
	for _, c := range l.Components() {
		if c == TextEncoder2 && layer.Component == TextEncoder {
			prefix = "lora_te1_" // where there are two
		}
	}
	name := prefix + underscored(layer.Module)
	down := entryOf(name+".lora_down.weight", layer.Down, dtype)
	return []safetensors.Entry{down, entryOf(name+".lora_up.weight", layer.Up, dtype), {
		Key: name + ".alpha", DType: down.DType, Shape: []int{},
		Float32s: func() ([]float32, error) { return []float32{float32(layer.Alpha)}, nil },
	}}
}
