package diffusers

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/nn"
)

// indexFile names the pipeline of a folder and its components.
const indexFile = "model_index.json"

// SaveComponent writes a network's config.json and weights to dir. The tree and the values are below the component's
// name. dtype is "F32", "F16" or "BF16".
func SaveComponent(dir, component string, config any, tree nn.Tree, values nn.Values, dtype string) error {
	if err := checkpoint.SaveModel(dir, weightsFile(component), tree.Within(component),
		values.Within(component), dtype); err != nil {
		return err
	}
	return checkpoint.WriteJSON(filepath.Join(dir, "config.json"), config)
}

// weightsFile is the name of a component's weights.
func weightsFile(component string) string {
	if component == TextEncoder || component == TextEncoder2 {
		return "model.safetensors"
	}
	return "diffusion_pytorch_model.safetensors"
}

// Save writes the whole model to dir, with the weights of all components below their names.
func (p *Pipeline) Save(dir string, values nn.Values, dtype string) error {
	return p.SaveEach(dir, dtype, func(string) (nn.Values, error) { return values, nil })
}

// SaveEach writes the whole model to dir, one network after the other: load gives the values of a component, below its
// name.
func (p *Pipeline) SaveEach(dir, dtype string, load func(component string) (nn.Values, error)) error {
	return p.save(dir, func(component string) error {
		values, err := load(component)
		if err != nil {
			return err
		}
		tree := p.Tree(component).Under(component)
		return SaveComponent(filepath.Join(dir, component), component, p.config(component), tree, values, dtype)
	})
}

// SaveFrom writes the whole model to dir, copying the weights one tensor at a time. dtype is "F32", "F16", "BF16", or
// "" to keep each tensor's own.
func (p *Pipeline) SaveFrom(dir string, w *Weights, dtype string) error {
	return p.save(dir, func(component string) error {
		folder := filepath.Join(dir, component)
		part, ok := w.parts[component]
		if !ok {
			return fmt.Errorf("no weights for %s", component)
		}
		if err := part.model.Check(part.tree); err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("save model: %w", err)
		}
		if err := checkpoint.SaveModelFile(filepath.Join(folder, weightsFile(component)),
			part.model, dtype); err != nil {
			return err
		}
		return checkpoint.WriteJSON(filepath.Join(folder, "config.json"), p.config(component))
	})
}

// Copy writes the whole model to dir as SaveFrom does, from its own files.
func (p *Pipeline) Copy(dir, dtype string) error {
	w, err := p.Weights(p.Components()...)
	if err != nil {
		return err
	}
	return errors.Join(p.SaveFrom(dir, w, dtype), w.Close())
}

// SaveFused writes the whole model to dir with LoRAs added to its weights, each times its scale, and with the textual
// inversions of their files. One network at a time is in memory, as float32. dtype is "F32", "F16", "BF16", or "" for
// F32.
func (p *Pipeline) SaveFused(dir string, loras []string, scales []float64, dtype string) error {
	for _, path := range loras { // whatever does not fit shows before anything is written
		l, err := p.OpenLoRA(path)
		if err != nil {
			return err
		}
		if err := p.AddLoRATokens(l); err != nil {
			return err
		}
	}
	return p.SaveEach(dir, cmp.Or(dtype, "F32"), func(component string) (nn.Values, error) {
		values, err := p.Load(component)
		if err != nil {
			return nil, err
		}
		network := values.Within(component)
		for i, path := range loras {
			if err := fuse(path, component, p.Tree(component), network, scales[i]); err != nil {
				return nil, err
			}
		}
		return values, nil
	})
}

// fuse adds a LoRA's changes to one network to its values.
func fuse(path, component string, tree nn.Tree, values nn.Values, scale float64) error {
	l, err := checkpoint.OpenLoRA(path)
	if err != nil {
		return err
	}
	return errors.Join(l.Fuse(component, tree, values, scale), l.Close())
}

// config is the content of a component's config.json.
func (p *Pipeline) config(component string) any {
	switch component {
	case UNet:
		return p.UNet
	case VAE:
		return p.VAE
	case TextEncoder2:
		return *p.Text2
	}
	return p.Text
}

// save writes the components by saveComponent, and all that lies beside them.
func (p *Pipeline) save(dir string, saveComponent func(component string) error) error {
	for _, component := range p.Components() {
		if err := saveComponent(component); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "scheduler"), 0o755); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	if err := checkpoint.WriteJSON(filepath.Join(dir, "scheduler", "scheduler_config.json"), p.Noise); err != nil {
		return err
	}
	tokenizers := map[string]*clip.Tokenizer{"tokenizer": p.Tokenizer}
	if p.XL() {
		tokenizers["tokenizer_2"] = p.Tokenizer2
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
	// The folder holds no ControlNet, so its class is the one without.
	class := strings.Replace(cmp.Or(p.ClassName, "StableDiffusionPipeline"), "ControlNet", "", 1)
	fields := map[string]any{
		"_class_name":       class,
		"feature_extractor": none,
		"scheduler":         []string{"diffusers", p.Noise.ClassName},
		"text_encoder":      []string{"transformers", "CLIPTextModel"},
		"tokenizer":         []string{"transformers", "CLIPTokenizer"},
		"unet":              []string{"diffusers", "UNet2DConditionModel"},
		"vae":               []string{"diffusers", "AutoencoderKL"},
	}
	if !p.XL() {
		fields["requires_safety_checker"], fields["safety_checker"] = false, none
		return fields
	}
	fields["force_zeros_for_empty_prompt"], fields["image_encoder"] = p.ForceZeros, none
	fields["text_encoder_2"] = []string{"transformers", clip.WithProjection}
	fields["tokenizer_2"] = []string{"transformers", "CLIPTokenizer"}
	return fields
}
