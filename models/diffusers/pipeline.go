// Package diffusers reads and writes Stable Diffusion models in the folder layout of the library of that name.
package diffusers

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"limner/controlnet"
	"limner/internal/plaintext"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/sd"
	"limner/models/unet"
	"limner/models/vae"
)

// The folders of a model's components, which are also the names of their parameters' places in a tree.
const (
	UNet         = sd.UNet
	VAE          = sd.VAE
	TextEncoder  = sd.TextEncoder
	TextEncoder2 = sd.TextEncoder2
	ControlNet   = sd.ControlNet
)

// Pipeline is a Stable Diffusion pipeline: the configs of its networks and its tokenizers. Weights are read by Load, or
// opened by Weights.
type Pipeline struct {
	Dir       string // or a single file
	ClassName string // in model_index.json
	sd.Networks
	Tokenizer  *clip.Tokenizer
	Tokenizer2 *clip.Tokenizer // of SDXL's second text encoder; nil elsewhere
	// ForceZeros, in SDXL, makes the embeddings of a negative prompt that was not given zeros, not those of "".
	ForceZeros bool
	single     bool // Dir is a file
	variant    string
	added      map[string][]float32 // rows of textual inversions, by text encoder
	inversions []inversion
}

// classes are the pipelines that a folder may name: whether they are SDXL's.
var classes = map[string]bool{
	"StableDiffusionPipeline": false, "StableDiffusionControlNetPipeline": false,
	"StableDiffusionImg2ImgPipeline": false, "StableDiffusionInpaintPipeline": false,
	"StableDiffusionControlNetImg2ImgPipeline": false, "StableDiffusionControlNetInpaintPipeline": false,
	"LatentConsistencyModelPipeline": false, "LatentConsistencyModelImg2ImgPipeline": false,
	"StableDiffusionXLPipeline":                  true,
	"StableDiffusionXLImg2ImgPipeline":           true,
	"StableDiffusionXLInpaintPipeline":           true,
	"StableDiffusionXLControlNetPipeline":        true,
	"StableDiffusionXLControlNetImg2ImgPipeline": true,
	"StableDiffusionXLControlNetInpaintPipeline": true,
}

// Open is OpenWith without options.
func Open(path string) (*Pipeline, error) { return OpenWith(path, Options{}) }

// openFolder reads a folder in diffusers' layout.
func openFolder(dir string, log io.Writer) (*Pipeline, error) {
	index, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{Dir: dir, ClassName: index.ClassName}
	if p.UNet, err = readConfig(dir, UNet+"/config.json", unet.ParseConfig, log); err != nil {
		return nil, err
	}
	if p.VAE, err = readConfig(dir, VAE+"/config.json", vae.ParseConfig, log); err != nil {
		return nil, err
	}
	if p.Text, err = readConfig(dir, TextEncoder+"/config.json", clip.ParseConfig, log, clip.Own...); err != nil {
		return nil, err
	}
	if p.Noise, err = readConfig(dir, "scheduler/scheduler_config.json", noise.ParseConfig, log); err != nil {
		return nil, err
	}
	if p.Tokenizer, err = clip.LoadTokenizer(filepath.Join(dir, "tokenizer")); err != nil {
		return nil, err
	}
	if classes[p.ClassName] {
		text, err := readConfig(dir, TextEncoder2+"/config.json", clip.ParseConfig, log, clip.Own...)
		if err != nil {
			return nil, err
		}
		if p.Tokenizer2, err = clip.LoadTokenizer(filepath.Join(dir, "tokenizer_2")); err != nil {
			return nil, err
		}
		p.Text2, p.ForceZeros = &text, index.ForceZeros
	}
	return p, p.check()
}

// index is the part of model_index.json that matters.
type index struct {
	ClassName  string    `json:"_class_name"`
	Text       []*string `json:"text_encoder"` // library and class; null where there is none
	ForceZeros bool      `json:"force_zeros_for_empty_prompt"`
}

// maxConfigBytes is the most of a config that is read: the largest have a few kilobytes.
const maxConfigBytes = 64 << 20

// readIndex refuses a folder that holds no Stable Diffusion model.
func readIndex(dir string) (index, error) {
	i := index{ForceZeros: true}
	path := filepath.Join(dir, indexFile)
	raw, err := plaintext.ReadFile(path, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return i, fmt.Errorf("no model folder at %s", dir)
		}
		return i, fmt.Errorf("%s is no model folder: it has no %s", dir, indexFile)
	} else if err != nil {
		return i, fmt.Errorf("load model: %w", err)
	}
	if err := plaintext.JSON(raw, &i); err != nil {
		return i, fmt.Errorf("load %s: %w", path, err)
	}
	name := i.ClassName
	i.ClassName = nn.PyTorchClass(name)
	if _, ok := classes[i.ClassName]; !ok {
		return i, fmt.Errorf("load %s: _class_name: got %q, supported: %s",
			path, name, strings.Join(slices.Sorted(maps.Keys(classes)), ", "))
	}
	if classes[i.ClassName] && len(i.Text) == 2 && i.Text[1] == nil {
		return i, fmt.Errorf("load %s: it has no text_encoder, as the %s, which is not supported: take %s",
			path, checkpoint.SDXLRefiner, checkpoint.SDXL)
	}
	return i, nil
}

// check compares the components with each other.
func (p *Pipeline) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	width, pooled := p.Text.HiddenSize, 0
	if p.XL() {
		width, pooled = width+p.Text2.HiddenSize, p.Text2.ProjectionDim
		if !p.Text2.Projects() {
			bad("%s: architectures is %v, want %s", TextEncoder2, p.Text2.Architectures, clip.WithProjection)
		}
		if p.Tokenizer2.MaxLength() != p.Tokenizer.MaxLength() {
			bad("tokenizer_2 makes %d tokens, tokenizer %d: want the same",
				p.Tokenizer2.MaxLength(), p.Tokenizer.MaxLength())
		}
	}
	if p.UNet.CrossAttentionDim != width {
		bad("the UNet's cross_attention_dim is %d, the text embeddings are %d wide", p.UNet.CrossAttentionDim, width)
	}
	if got := p.UNet.PooledDim(); got != pooled {
		bad("the UNet takes %d channels of pooled text, the text encoders make %d", got, pooled)
	}
	latents := p.VAE.LatentChannels
	if p.UNet.OutChannels != latents {
		bad("the UNet has %d out_channels, the VAE %d latent_channels: want the same", p.UNet.OutChannels, latents)
	}
	if in := p.UNet.InChannels; checkpoint.Variant(in) != "" && latents == 4 {
		bad("the UNet has %d in_channels: it is of a model for %s, which is not supported", in, checkpoint.Variant(in))
	} else if in != latents && in != 2*latents+1 {
		bad("the UNet has %d in_channels: want the VAE's %d latent_channels or, for inpainting, %d",
			in, latents, 2*latents+1)
	}
	if got := p.Tokenizer.VocabSize(); got > p.Text.VocabSize {
		bad("the tokenizer has ids up to %d, the text encoder takes them up to %d", got-1, p.Text.VocabSize-1)
	}
	if p.XL() && p.Tokenizer2.VocabSize() > p.Text2.VocabSize {
		bad("tokenizer_2 has ids up to %d, %s takes them up to %d",
			p.Tokenizer2.VocabSize()-1, TextEncoder2, p.Text2.VocabSize-1)
	}
	if p.Tokenizer.MaxLength() > p.Text.MaxPositionEmbeddings {
		bad("the tokenizer makes %d tokens, the text encoder takes %d",
			p.Tokenizer.MaxLength(), p.Text.MaxPositionEmbeddings)
	}
	if len(errs) > 0 {
		return fmt.Errorf("load %s: %w", p.Dir, errors.Join(errs...))
	}
	return nil
}

// readConfig parses a config and says in one line which of its fields are passed over, but for own.
func readConfig[C any](dir, name string, parse func([]byte) (C, error), log io.Writer, own ...string) (C, error) {
	path := filepath.Join(dir, name)
	raw, err := plaintext.ReadFile(path, maxConfigBytes)
	if err != nil {
		var none C
		return none, fmt.Errorf("load config: %w", err)
	}
	c, err := parse(raw)
	if err != nil {
		return c, fmt.Errorf("load %s: %w", path, err)
	}
	if names := nn.Foreign(raw, own...); len(names) > 0 && log != nil {
		fmt.Fprintf(log, "%s: passed over, as nothing is computed with them: %s\n", path, strings.Join(names, ", "))
	}
	return c, nil
}

// Tokenizers are those of TextEncoders, in the same order.
func (p *Pipeline) Tokenizers() []*clip.Tokenizer {
	if p.XL() {
		return []*clip.Tokenizer{p.Tokenizer, p.Tokenizer2}
	}
	return []*clip.Tokenizer{p.Tokenizer}
}

// Components are the networks of the pipeline.
func (p *Pipeline) Components() []string {
	all := []string{UNet, VAE, TextEncoder}
	if p.XL() {
		all = append(all, TextEncoder2)
	}
	return all
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
	case TextEncoder2:
		return p.Text2.Tree()
	}
	return nil
}

// Load reads the weights of components, each below its name.
func (p *Pipeline) Load(components ...string) (nn.Values, error) {
	w, err := p.Weights(components...)
	if err != nil {
		return nil, err
	}
	var tree nn.Tree
	for _, component := range components {
		tree = append(tree, p.Tree(component).Under(component)...)
	}
	values, err := checkpoint.Collect(w, tree)
	return values, errors.Join(err, w.Close())
}

// LoadComponent reads a network's weights from its folder. The tree is without the component's name, the values are
// below it.
func LoadComponent(dir, component string, tree nn.Tree) (nn.Values, error) {
	m, err := checkpoint.OpenModel(dir)
	if err != nil {
		return nil, err
	}
	values, err := m.Load(tree)
	return values.Under(component), errors.Join(err, m.Close())
}

// ReadControlNet reads the config of a ControlNet's folder, or makes that of a single file. log hears which fields are
// passed over; nil: silence.
func ReadControlNet(path string, log io.Writer) (controlnet.Config, error) {
	if isFile(path) {
		return guessControlNet(path)
	}
	if isFile(filepath.Join(path, indexFile)) {
		if sub := filepath.Join(path, ControlNet); isFile(filepath.Join(sub, "config.json")) {
			return controlnet.Config{}, fmt.Errorf("%s is a whole model: give its ControlNet's folder, %s", path, sub)
		}
		return controlnet.Config{},
			fmt.Errorf("%s is a whole model, without a folder %s: give the folder of a ControlNet", path, ControlNet)
	}
	var class struct {
		Name string `json:"_class_name"`
	}
	err := checkpoint.ReadConfig(filepath.Join(path, "config.json"), &class)
	if name := nn.PyTorchClass(class.Name); err == nil && name != "" && name != "ControlNetModel" {
		return controlnet.Config{}, fmt.Errorf("load %s: _class_name: got %q, want ControlNetModel",
			filepath.Join(path, "config.json"), class.Name)
	}
	return readConfig(path, "config.json", controlnet.ParseConfig, log)
}

// OpenControlNet reads a ControlNet from a folder or a single file. The weights stand below ControlNet.
func OpenControlNet(path string) (c controlnet.Config, values nn.Values, err error) {
	if c, err = ReadControlNet(path, nil); err != nil {
		return c, nil, err
	}
	w := &Weights{parts: map[string]part{}}
	if err := w.Open(ControlNet, path, c.Tree()); err != nil {
		return c, nil, err
	}
	values, err = w.parts[ControlNet].model.Load(c.Tree())
	return c, values.Under(ControlNet), errors.Join(err, w.Close())
}
