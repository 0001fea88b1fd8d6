package checkpoint

import (
	"maps"
	"slices"
	"strings"

	"limner/models/safetensors"
)

// openCLIPNames maps a text encoder of OpenCLIP with that many layers to transformers' names. Queries,
// keys and values stand in one tensor there, so they have none here.
func openCLIPNames(layers int) names {
	n := names{
		"token_embedding":      "text_model.embeddings.token_embedding",
		"positional_embedding": "text_model.embeddings.position_embedding.weight",
		"ln_final":             "text_model.final_layer_norm",
		"text_projection":      "text_projection.weight",
	}
	for i := range layers {
		for from, to := range map[string]string{
			"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
			"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
		} {
			n[at("transformer.resblocks", i, from)] = at("text_model.encoder.layers", i, to)
		}
	}
	return n
}

// projections are the parts of OpenCLIP's in_proj, in their order.
var projections = []string{"q_proj", "k_proj", "v_proj"}

// unused are entries of text encoders that are no parameters of theirs.
func unused(key string) bool {
	return key == "logit_scale" || key == "attn_mask" || strings.HasSuffix(key, "position_ids")
}

// sd2Layers is the number of layers of SD 2.x's OpenCLIP text encoder, of which the last goes unused.
const sd2Layers = 24

// fromOpenCLIP translates a text encoder of OpenCLIP. Where penultimate is set, as in SD 2.x, the
// result is diffusers' text encoder, which has neither the last layer nor the projection. A file
// that was made from such an encoder has lost both already; it is told by the missing projection.
func fromOpenCLIP(part map[string]safetensors.Tensor, penultimate bool) translated {
	layers := modulesOf(part).count("transformer.resblocks")
	_, whole := part["text_projection"]
	last := ""
	if penultimate && (whole || layers == sd2Layers) && layers > 0 {
		last = at("transformer.resblocks", layers-1) + "."
	}
	n := openCLIPNames(layers)
	t := translated{tensors: map[string]safetensors.Tensor{}, spelled: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(part)) {
		tensor := part[key]
		switch {
		case unused(key), last != "" && strings.HasPrefix(key, last), penultimate && key == "text_projection":
			continue
		case key == "text_projection" && len(tensor.Shape) == 2:
			// Text embeddings stand at its left, so it is [in, out].
			tensor.Shape = []int{tensor.Shape[1], tensor.Shape[0]}
			tensor.Order = safetensors.MemoryOrder
		}
		if t.splitProjections(key, tensor) {
			continue
		}
		name, _ := n.of(key)
		t.add(name, key, tensor)
	}
	return t
}

// splitProjections takes up OpenCLIP's in_proj as its three parts, if key is one.
func (t *translated) splitProjections(key string, tensor safetensors.Tensor) bool {
	rest, ok := strings.CutPrefix(key, "transformer.resblocks.")
	layer, name, found := strings.Cut(rest, ".")
	leaf := map[string]string{"attn.in_proj_weight": "weight", "attn.in_proj_bias": "bias"}[name]
	if !ok || !found || leaf == "" || len(tensor.Shape) == 0 || tensor.Shape[0]%len(projections) != 0 {
		return false
	}
	for i, p := range projections {
		third := tensor.Part(i, len(projections))
		third.Shape = slices.Clone(tensor.Shape)
		third.Shape[0] /= len(projections)
		t.add(at("text_model.encoder.layers", layer, "self_attn", p, leaf), key, third)
	}
	return true
}

// fromLDMText translates a text encoder that the original code took from transformers.
func fromLDMText(part map[string]safetensors.Tensor) translated {
	t := translated{tensors: map[string]safetensors.Tensor{}, spelled: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(part)) {
		if !unused(key) {
			t.add(textPrefix+strings.TrimPrefix(key, textPrefix), key, part[key])
		}
	}
	return t
}
