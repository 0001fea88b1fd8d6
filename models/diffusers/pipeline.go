// Package diffusers reads and writes Stable Diffusion models in the folder layout of the library of that name.
package diffusers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"limner/controlnet"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/unet"
	"limner/models/vae"
)

// The folders of a model's components, which are also the names of their parameters' places in a tree.
const (
	UNet        = "unet"
	VAE         = "vae"
	TextEncoder = "text_encoder"
	ControlNet  = "controlnet"
)

// Pipeline is a StableDiffusionPipeline folder: the configs of its networks and its tokenizer. Weights are read by Load.
type Pipeline struct {
	Dir       string
	UNet      unet.Config
	VAE       vae.Config
	Text      clip.Config
	Noise     noise.Config
	Tokenizer *clip.Tokenizer
}

// Open reads everything but the weights of a model folder.
func Open(dir string) (*Pipeline, error) {
	if err := checkIndex(dir); err != nil {
		return nil, err
	}
	p := &Pipeline{Dir: dir}
	var err error
	if p.UNet, err = readConfig(dir, UNet+"/config.json", unet.ParseConfig); err != nil {
		return nil, err
	}
	if p.VAE, err = readConfig(dir, VAE+"/config.json", vae.ParseConfig); err != nil {
		return nil, err
	}
	if p.Text, err = readConfig(dir, TextEncoder+"/config.json", clip.ParseConfig); err != nil {
		return nil, err
	}
	if p.Noise, err = readConfig(dir, "scheduler/scheduler_config.json", noise.ParseConfig); err != nil {
		return nil, err
	}
	if p.Tokenizer, err = clip.LoadTokenizer(filepath.Join(dir, "tokenizer")); err != nil {
		return nil, err
	}
	return p, p.check()
}

// checkIndex refuses a folder that holds no Stable Diffusion model.
func checkIndex(dir string) error {
	path := filepath.Join(dir, "model_index.json")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("no model folder at %s", dir)
		}
		return fmt.Errorf("%s is no model folder: it has no model_index.json", dir)
	} else if err != nil {
		return fmt.Errorf("load model: %w", err)
	}
	var index struct {
		ClassName string `json:"_class_name"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return fmt.Errorf("load %s: %w", path, err)
	}
	switch index.ClassName {
	case "StableDiffusionPipeline", "StableDiffusionControlNetPipeline":
		return nil
	}
	return fmt.Errorf("load %s: _class_name: got %q, supported: StableDiffusionPipeline, StableDiffusionControlNetPipeline", path, index.ClassName)
}

// check compares the components with each other.
func (p *Pipeline) check() error {
	var errs []error
	if p.UNet.CrossAttentionDim != p.Text.HiddenSize {
		errs = append(errs, fmt.Errorf("cross_attention_dim %d of the UNet is not the text encoder's hidden_size %d", p.UNet.CrossAttentionDim, p.Text.HiddenSize))
	}
	if p.UNet.OutChannels != p.VAE.LatentChannels || p.UNet.InChannels != p.VAE.LatentChannels {
		errs = append(errs, fmt.Errorf("the UNet has %d in_channels and %d out_channels, the VAE %d latent_channels: want the same", p.UNet.InChannels, p.UNet.OutChannels, p.VAE.LatentChannels))
	}
	if p.Tokenizer.MaxLength() > p.Text.MaxPositionEmbeddings {
		errs = append(errs, fmt.Errorf("the tokenizer makes %d tokens, the text encoder takes %d", p.Tokenizer.MaxLength(), p.Text.MaxPositionEmbeddings))
	}
	if len(errs) > 0 {
		return fmt.Errorf("load %s: %w", p.Dir, errors.Join(errs...))
	}
	return nil
}

func readConfig[C any](dir, name string, parse func([]byte) (C, error)) (C, error) {
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	if err != nil {
		var none C
		return none, fmt.Errorf("load config: %w", err)
	}
	c, err := parse(raw)
	if err != nil {
		return c, fmt.Errorf("load %s: %w", path, err)
	}
	return c, nil
}

// Tree lists the parameters of a component, without its name.
func (p *Pipeline) Tree(component string) nn.Tree {
	switch component {
	case UNet:
		return p.UNet.Tree()
	case VAE:
		return p.VAE.Tree()
	case TextEncoder:
		return p.Text.Tree()
	}
	return nil
}

// Load reads the weights of components, each below its name.
func (p *Pipeline) Load(components ...string) (nn.Values, error) {
	all := nn.Values{}
	for _, component := range components {
		values, err := LoadComponent(filepath.Join(p.Dir, component), component, p.Tree(component))
		if err != nil {
			return nil, err
		}
		all = nn.Merge(all, values)
	}
	return all, nil
}

// LoadComponent reads a network's weights from its folder. The tree is without the component's name, the values are below it.
func LoadComponent(dir, component string, tree nn.Tree) (nn.Values, error) {
	m, err := checkpoint.OpenModel(dir)
	if err != nil {
		return nil, err
	}
	values, err := m.Load(tree)
	return values.Under(component), errors.Join(err, m.Close())
}

// OpenControlNet reads a ControlNet's folder. The weights stand below ControlNet.
func OpenControlNet(dir string) (controlnet.Config, nn.Values, error) {
	c, err := readConfig(dir, "config.json", controlnet.ParseConfig)
	if err != nil {
		return c, nil, err
	}
	values, err := LoadComponent(dir, ControlNet, c.Tree())
	return c, values, err
}
