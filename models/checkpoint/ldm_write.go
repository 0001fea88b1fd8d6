package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"limner/models/safetensors"
)

// SaveModelFile writes one network to path as safetensors under diffusers' keys and shapes, wherever it was
// opened from. dtype is F32, F16, BF16 or F64; "" keeps each tensor's own. One tensor at a time is changed.
func SaveModelFile(path string, m *Model, dtype string) error {
	if err := checkDType(dtype); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	var entries []safetensors.Entry
	for _, key := range m.Keys() {
		t := m.tensors[key]
		if unused(key) {
			continue
		}
		name := newName(key)
		if vaeAttention.MatchString(name) {
			t = withoutPixels(t)
		}
		entries = append(entries, entryOf(name, t, dtype))
	}
	return safetensors.Write(path, entries, map[string]string{"format": "pt"})
}

// SaveControlNetFile writes a ControlNet to path in the naming of its original code, as A1111's extension reads it.
func SaveControlNetFile(path string, m *Model, dtype string) error {
	if err := checkDType(dtype); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if s, ok := m.Structure(); !ok || s.Component != ControlNet {
		return fmt.Errorf("save %s: %s is no ControlNet", path, m.path)
	}
	entries, err := m.ldmControlNet(dtype)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return safetensors.Write(path, entries, map[string]string{"format": "pt"})
}

// SaveVAEFile writes a VAE to path in the naming of the original code, as A1111 reads it from *.vae.safetensors.
func SaveVAEFile(path string, m *Model, dtype string) error {
	if err := checkDType(dtype); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	entries, err := m.ldmVAE(dtype)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return safetensors.Write(path, entries, map[string]string{"format": "pt"})
}

// SaveSingleFile writes a whole model to path as one file in the naming of the original code, as A1111
// reads it. Components are by the names of their folders: unet, vae, text_encoder and, of an SDXL model,
// text_encoder_2. The text encoder of SD 2.x has 23 of OpenCLIP's 24 layers in diffusers, and no
// projection: so has the file, as nothing that draws with it uses the rest. marks say what the file's readers
// cannot know of the noise schedule; that SD 2.x predicts v, they take for granted.
func SaveSingleFile(path string, components map[string]*Model, marks Marks, dtype string) error {
	entries, err := singleFile(components, dtype)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if s, _ := components[UNet].Structure(); marks.VPrediction {
		family, _ := s.guess()
		marks.VPrediction = family != SD2
	}
	entries = append(entries, marks.entries()...)
	return safetensors.Write(path, entries, map[string]string{"format": "pt"})
}

func singleFile(components map[string]*Model, dtype string) ([]safetensors.Entry, error) {
	if err := checkDType(dtype); err != nil {
		return nil, err
	}
	need := []string{UNet, VAE, TextEncoder}
	if components[TextEncoder2] != nil {
		need = append(need, TextEncoder2)
	}
	for _, name := range need {
		if components[name] == nil {
			return nil, fmt.Errorf("a whole model needs %s", name)
		}
	}
	s, ok := components[UNet].Structure()
	if !ok || s.Component != UNet {
		return nil, fmt.Errorf("%s is no UNet", components[UNet].path)
	}
	family, _ := s.guess()
	var all []safetensors.Entry
	var errs []error
	add := func(prefix string, entries []safetensors.Entry, err error) {
		for _, e := range entries {
			e.Key = prefix + e.Key
			all = append(all, e)
		}
		errs = append(errs, err)
	}
	entries, err := components[UNet].ldmUNet(dtype)
	add("model.diffusion_model.", entries, err)
	entries, err = components[VAE].ldmVAE(dtype)
	add("first_stage_model.", entries, err)
	text := components[TextEncoder]
	switch {
	case components[TextEncoder2] != nil:
		add("conditioner.embedders.0.transformer.", text.ldmText(dtype), nil)
		entries, err = components[TextEncoder2].openCLIP(dtype)
		add("conditioner.embedders.1.model.", entries, err)
	case family == SD2:
		entries, err = text.openCLIP(dtype)
		add("cond_stage_model.model.", entries, err)
	default:
		add("cond_stage_model.transformer.", text.ldmText(dtype), nil)
	}
	return all, errors.Join(errs...)
}

func checkDType(dtype string) error {
	if dtype != "" && !safetensors.IsFloat(dtype) {
		return fmt.Errorf("dtype %q: want F32, F16, BF16 or F64", dtype)
	}
	return nil
}

// entryOf writes a tensor under a key in a file's order. What is no floating point keeps its dtype.
func entryOf(key string, t safetensors.Tensor, dtype string) safetensors.Entry {
	if dtype == "" || !safetensors.IsFloat(t.DType) {
		dtype = t.DType
	}
	return safetensors.Entry{Key: key, DType: dtype, Shape: t.Shape, Parts: []safetensors.Tensor{t}}
}

// entries renames all tensors by n. Those that it does not know are an error.
func (m *Model) entries(n names, dtype string) ([]safetensors.Entry, error) {
	var all []safetensors.Entry
	var unknown []string
	for _, key := range m.Keys() {
		name, ok := n.of(newName(key))
		if !ok {
			unknown = append(unknown, fmt.Sprintf("%s %v", key, m.tensors[key].Shape))
			continue
		}
		all = append(all, entryOf(name, m.tensors[key], dtype))
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%s: %d keys have no place in the original naming:%s",
			m.path, len(unknown), list(unknown))
	}
	return all, nil
}

func (m *Model) ldmUNet(dtype string) ([]safetensors.Entry, error) {
	return m.entries(diffusersBlocks(modulesOf(m.tensors)).unetNames().inverse(), dtype)
}

func (m *Model) ldmControlNet(dtype string) ([]safetensors.Entry, error) {
	mods := modulesOf(m.tensors)
	const outer = 2 // conv_in and conv_out
	hints := mods.count("controlnet_cond_embedding.blocks") + outer
	return m.entries(diffusersBlocks(mods).controlNames(hints).inverse(), dtype)
}

func (m *Model) ldmVAE(dtype string) ([]safetensors.Entry, error) {
	mods := modulesOf(m.tensors)
	n := vaeNames(mods.count("encoder.down_blocks"), mods.count("encoder.down_blocks.0.resnets")).inverse()
	for _, same := range []string{
		"encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out", "quant_conv", "post_quant_conv",
	} {
		n[same] = same
	}
	entries, err := m.entries(n, dtype)
	for i, e := range entries {
		if strings.Contains(e.Key, ".mid.attn_1.") && strings.HasSuffix(e.Key, ".weight") && len(e.Shape) == 2 {
			entries[i].Shape = append(slices.Clone(e.Shape), 1, 1)
		}
	}
	return entries, err
}

// textTensors are the parameters of a text encoder with the prefix of its text model.
func (m *Model) textTensors() map[string]safetensors.Tensor {
	out := map[string]safetensors.Tensor{}
	for key, t := range m.tensors {
		if unused(key) {
			continue
		}
		if !strings.HasPrefix(key, textPrefix) && !strings.HasPrefix(key, "text_projection.") {
			key = textPrefix + key
		}
		out[key] = t
	}
	return out
}

func (m *Model) ldmText(dtype string) []safetensors.Entry {
	tensors := m.textTensors()
	var all []safetensors.Entry
	for _, key := range slices.Sorted(maps.Keys(tensors)) {
		all = append(all, entryOf(key, tensors[key], dtype))
	}
	return all
}

// openCLIP writes queries, keys and values of a layer as one tensor, and the projection as [in, out].
func (m *Model) openCLIP(dtype string) ([]safetensors.Entry, error) {
	tensors := m.textTensors()
	layers := modulesOf(tensors).count("text_model.encoder.layers")
	rest := Model{path: m.path, tensors: tensors}
	var all []safetensors.Entry
	for i := range layers {
		for leaf, name := range map[string]string{"weight": "attn.in_proj_weight", "bias": "attn.in_proj_bias"} {
			e := safetensors.Entry{Key: at("transformer.resblocks", i, name)}
			for _, p := range projections {
				key := at("text_model.encoder.layers", i, "self_attn", p, leaf)
				t, ok := tensors[key]
				if !ok || len(t.Shape) == 0 {
					return nil, fmt.Errorf("%s: missing: %s", m.path, key)
				}
				delete(tensors, key)
				part := entryOf(key, t, dtype)
				e.DType, e.Shape, e.Parts = part.DType, slices.Clone(t.Shape), append(e.Parts, t)
			}
			e.Shape[0] *= len(projections)
			all = append(all, e)
		}
	}
	entries, err := rest.entries(openCLIPNames(layers).inverse(), dtype)
	for i, e := range entries {
		if e.Key == "text_projection" && len(e.Shape) == 2 {
			entries[i].Order, entries[i].Shape = safetensors.MemoryOrder, []int{e.Shape[1], e.Shape[0]}
		}
	}
	return append(all, entries...), err
}
