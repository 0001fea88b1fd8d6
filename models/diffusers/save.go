package diffusers

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/nn"
)

// indexFile names the pipeline of a folder and its components.
const indexFile = "model_index.json"

// SaveComponent writes a network's config.json and weights to dir. The tree and the values are below the component's name.
// dtype is "F32", "F16" or "BF16".
func SaveComponent(dir, component string, config any, tree nn.Tree, values nn.Values, dtype string) error {
	name := "diffusion_pytorch_model.safetensors"
	if component == TextEncoder || component == TextEncoder2 {
		name = "model.safetensors"
	}
	if err := checkpoint.SaveModel(dir, name, tree.Within(component), values.Within(component), dtype); err != nil {
		return err
	}
	return checkpoint.WriteJSON(filepath.Join(dir, "config.json"), config)
}

// Save writes the whole model to dir, with the weights of all components below their names.
func (p *Pipeline) Save(dir string, values nn.Values, dtype string) error {
	configs := map[string]any{UNet: p.UNet, VAE: p.VAE, TextEncoder: p.Text}
	tokenizers := map[string]*clip.Tokenizer{"tokenizer": p.Tokenizer}
	if p.XL != nil {
		configs[TextEncoder2], tokenizers["tokenizer_2"] = p.XL.Text, p.XL.Tokenizer
	}
	for component, config := range configs {
		tree := p.Tree(component).Under(component)
		if err := SaveComponent(filepath.Join(dir, component), component, config, tree, values, dtype); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "scheduler"), 0o755); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	if err := checkpoint.WriteJSON(filepath.Join(dir, "scheduler", "scheduler_config.json"), p.Noise); err != nil {
		return err
	}
	for name, tokenizer := range tokenizers {
		if err := tokenizer.Save(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	// The index comes last: with it the folder is a model.
	return checkpoint.WriteJSON(filepath.Join(dir, indexFile), p.index())
}

func (p *Pipeline) index() any {
	none := []any{nil, nil}
	fields := map[string]any{
		"_class_name":       cmp.Or(p.ClassName, "StableDiffusionPipeline"),
		"feature_extractor": none,
		"scheduler":         []string{"diffusers", p.Noise.ClassName},
		"text_encoder":      []string{"transformers", "CLIPTextModel"},
		"tokenizer":         []string{"transformers", "CLIPTokenizer"},
		"unet":              []string{"diffusers", "UNet2DConditionModel"},
		"vae":               []string{"diffusers", "AutoencoderKL"},
	}
	if p.XL == nil {
		fields["requires_safety_checker"], fields["safety_checker"] = false, none
		return fields
	}
	fields["force_zeros_for_empty_prompt"], fields["image_encoder"] = p.XL.ForceZeros, none
	fields["text_encoder_2"] = []string{"transformers", clip.WithProjection}
	fields["tokenizer_2"] = []string{"transformers", "CLIPTokenizer"}
	return fields
}
