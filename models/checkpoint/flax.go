package checkpoint

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"limner/models/safetensors"
)

// flaxLists are the modules that come in numbers. Flax joins the number by "_", PyTorch by ".".
var flaxLists = regexp.MustCompile(`^(down_blocks|up_blocks|resnets|attentions|transformer_blocks|downsamplers|upsamplers|` +
	`to_out|net|blocks|controlnet_down_blocks)_(\d+)$`)

// flaxAttention are the parts of names that differ in another way: the VAE's attention kept its old names.
var flaxAttention = map[string]string{"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

// fromFlax translates the weights of a Flax model to the names that diffusers and transformers give
// them in PyTorch. Kernels stand in memory's layout as they are.
func fromFlax(tensors map[string]safetensors.Tensor) (translated, error) {
	t := translated{
		tensors: make(map[string]safetensors.Tensor, len(tensors)), spelled: make(map[string]string, len(tensors)),
	}
	for _, path := range slices.Sorted(maps.Keys(tensors)) {
		tensor := tensors[path]
		parts := strings.Split(strings.TrimPrefix(path, "params/"), "/")
		leaf := parts[len(parts)-1]
		switch {
		case leaf == "kernel":
			switch s := tensor.Shape; len(s) {
			case 2:
				tensor.Shape = []int{s[1], s[0]}
			case 4:
				tensor.Shape = []int{s[3], s[2], s[0], s[1]}
			default:
				return t, fmt.Errorf("%s %v: a kernel has 2 or 4 dimensions", path, s)
			}
			tensor.Order = safetensors.MemoryOrder
			leaf = "weight"
		case leaf == "scale", leaf == "embedding":
			leaf = "weight"
		}
		parts[len(parts)-1] = leaf
		for i, p := range parts {
			if m := flaxLists.FindStringSubmatch(p); m != nil {
				parts[i] = m[1] + "." + m[2]
			} else if name, ok := flaxAttention[p]; ok && i > 0 && strings.HasPrefix(parts[i-1], "attentions.") {
				parts[i] = name
			}
		}
		key := strings.Join(parts, ".")
		if _, ok := t.tensors[key]; ok {
			return t, fmt.Errorf("%s is there twice, once as %s", key, path)
		}
		t.tensors[key] = tensor
		t.spelled[key] = path
	}
	return t, nil
}
