package diffusers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"limner/controlnet"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/noise"
	"limner/models/unet"
	"limner/models/vae"
)

// Options say what the files of a model do not.
type Options struct {
	// Variant is the name of the weights to take where a folder has several, such as fp16.
	Variant string
	// Config is a model folder whose configs and tokenizers go with the weights of a single file. Without it they are
	// those that the file's family was published with, at the widths that its tensors have.
	Config string
	// PredictionType takes the place of the schedule's: "epsilon", "v_prediction" or "sample". A single file that does
	// not say v_pred is taken for v_prediction if it is of SD 2.x, else for epsilon.
	PredictionType string
	// Log hears what a person may want to know of the files, a line each; nil: silence.
	Log io.Writer
}

// OpenWith reads everything but the weights of a model: a folder in diffusers' layout, or a single file in the naming
// of the original code, as A1111 uses them.
func OpenWith(path string, o Options) (*Pipeline, error) {
	open := openFolder
	switch single := isFile(path); {
	case single && o.Variant != "":
		return nil, fmt.Errorf("variant %q: %s is a single file, which has none: leave it out", o.Variant, path)
	case !single && o.Config != "":
		return nil, fmt.Errorf("original_config %s: it goes with a single file, and %s is none: leave it out",
			o.Config, path)
	case single:
		open = func(path string, log io.Writer) (*Pipeline, error) { return openFile(path, o.Config, log) }
	}
	p, err := open(path, o.Log)
	if err != nil {
		return nil, err
	}
	p.variant = o.Variant
	if !p.single && o.Log != nil {
		p.sayEMA(o.Log)
	}
	switch o.PredictionType {
	case "":
	case noise.Epsilon, noise.VPrediction, noise.Sample:
		p.Noise.PredictionType = o.PredictionType
	default:
		return nil, fmt.Errorf("prediction type %q: want %s, %s or %s",
			o.PredictionType, noise.Epsilon, noise.VPrediction, noise.Sample)
	}
	return p, nil
}

// nonEMA is the variant of the weights as they were trained, in folders whose others are EMA's average of them.
const nonEMA = "non_ema"

// sayEMA says in one line which of EMA's and the plain weights of the UNet are taken, where the folder has both.
func (p *Pipeline) sayEMA(log io.Writer) {
	dir := filepath.Join(p.Dir, UNet)
	found, err := filepath.Glob(filepath.Join(dir, "*."+nonEMA+"*.safetensors"))
	switch {
	case err == nil && len(found) > 0 && p.variant == nonEMA:
		fmt.Fprintf(log, "%s holds the weights of EMA and the plain ones (%s): the plain ones are taken\n", dir, nonEMA)
	case err == nil && len(found) > 0:
		fmt.Fprintf(log, "%s holds the weights of EMA and the plain ones (%s): "+
			"those of EMA are taken, --variant %[2]s takes the others\n", dir, nonEMA)
	case isFile(filepath.Join(dir+"_ema", "config.json")):
		fmt.Fprintf(log, "%s holds the weights of EMA, %s the plain ones, which are taken\n", dir+"_ema", dir)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// IsWholeFile says whether path is a single file that holds a whole model, and what it says of its noise schedule.
func IsWholeFile(path string) (bool, checkpoint.Marks) {
	if !isFile(path) {
		return false, checkpoint.Marks{}
	}
	c, err := checkpoint.OpenFile(path)
	if err != nil {
		return false, checkpoint.Marks{}
	}
	defer c.Close()
	return c.Kind == checkpoint.KindPipeline, c.Marks()
}

// openFile reads a single file. The weights of configDir, if given, are of no matter.
func openFile(path, configDir string, log io.Writer) (p *Pipeline, err error) {
	c, err := checkpoint.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if c.Kind != checkpoint.KindPipeline {
		return nil, fmt.Errorf("load %s: it holds no whole model but: %s", path, c.What())
	}
	c.SayEMA(log)
	if configDir != "" {
		p, err = openFolder(configDir, log)
	} else {
		p, err = guess(c)
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	if p.Noise, err = marked(p.Noise, c.Marks()); err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	p.Dir, p.single = path, true
	for _, component := range p.Components() {
		if _, ok := c.Component(component); !ok {
			return nil, fmt.Errorf("load %s: the file has no %s, only %s",
				path, component, strings.Join(c.Components(), ", "))
		}
	}
	return p, p.check()
}

// guess makes the configs that the family of a single file was published with, at the widths of its tensors.
func guess(c *checkpoint.Checkpoint) (*Pipeline, error) {
	p := &Pipeline{ClassName: "StableDiffusionPipeline"}
	second := ""
	switch c.Family {
	case checkpoint.SD1, checkpoint.SD2:
	case checkpoint.SDXL:
		p.ClassName, second = "StableDiffusionXLPipeline", TextEncoder2
	default:
		return nil, fmt.Errorf("its family is %s: supported are %s, %s and %s",
			c.Family, checkpoint.SD1, checkpoint.SD2, checkpoint.SDXL)
	}
	parts := map[string]checkpoint.Structure{}
	for _, component := range []string{UNet, VAE, TextEncoder, second} {
		if component == "" {
			continue
		}
		m, ok := c.Component(component)
		if !ok {
			return nil, fmt.Errorf("the file has no %s, only %s", component, strings.Join(c.Components(), ", "))
		}
		s, ok := m.Structure()
		if !ok {
			return nil, fmt.Errorf("the keys of its %s are of no known network", component)
		}
		parts[component] = s
	}
	p.UNet = guessUNet(parts[UNet], c.Family)
	p.VAE = guessVAE(parts[VAE], c.Family)
	p.Text = guessText(parts[TextEncoder], c.Family == checkpoint.SD2)
	p.Noise = guessNoise(c)
	pad := clip.PadEnd
	if c.Family == checkpoint.SD2 {
		pad = clip.PadExclamation
	}
	var err error
	if p.Tokenizer, err = clip.Standard(pad); err != nil {
		return nil, err
	}
	if second != "" {
		text := guessText(parts[second], true)
		p.Text2, p.ForceZeros = &text, true
		if p.Tokenizer2, err = clip.Standard(clip.PadExclamation); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(p.UNet.Validate(), p.VAE.Validate(), p.Text.Validate()); err != nil {
		return nil, fmt.Errorf("it is not built as the published models of its family (%s): "+
			"give a folder with its configs\n%w", c.Family, err)
	}
	return p, nil
}

func guessUNet(s checkpoint.Structure, family checkpoint.Family) unet.Config {
	c := unet.Default()
	c.InChannels, c.OutChannels = s.InChannels, s.OutChannels
	c.Encoder = guessEncoder(c.Encoder, s, family)
	c.UpBlockTypes = nil
	for _, t := range slices.Backward(c.DownBlockTypes) {
		c.UpBlockTypes = append(c.UpBlockTypes, strings.Replace(t, "Down", "Up", 1))
	}
	c.SampleSize = map[checkpoint.Family]int{checkpoint.SD1: 64, checkpoint.SD2: 96, checkpoint.SDXL: 128}[family]
	return c
}

// guessEncoder fills in what a UNet and a ControlNet share.
func guessEncoder(c unet.Encoder, s checkpoint.Structure, family checkpoint.Family) unet.Encoder {
	c.BlockOutChannels, c.LayersPerBlock, c.CrossAttentionDim = s.BlockOutChannels,
		s.LayersPerBlock, s.CrossAttentionDim
	c.LinearProjection = s.LinearProjection
	c.DownBlockTypes, c.TransformerLayers = nil, nil
	for _, depth := range s.TransformerLayers {
		block := "CrossAttnDownBlock2D"
		if depth == 0 {
			block = "DownBlock2D"
		}
		c.DownBlockTypes = append(c.DownBlockTypes, block)
		c.TransformerLayers = append(c.TransformerLayers, max(1, depth))
	}
	// The middle block has the depth of the last level, also where that level itself has no attention.
	if n := len(c.TransformerLayers); n > 0 && s.MidTransformerLayers > 0 {
		c.TransformerLayers[n-1] = s.MidTransformerLayers
	}
	if len(slices.Compact(slices.Clone(c.TransformerLayers))) == 1 {
		c.TransformerLayers = c.TransformerLayers[:1]
	}
	if family != checkpoint.SD1 {
		c.AttentionHeadDim = nil
		for _, channels := range c.BlockOutChannels {
			c.AttentionHeadDim = append(c.AttentionHeadDim, max(1, channels/64))
		}
	}
	if s.AdditionInputDim > 0 {
		kind, channels := "text_time", 256
		c.AdditionEmbedType, c.AdditionTimeEmbedDim, c.AdditionInputDim = &kind, &channels, &s.AdditionInputDim
	}
	return c
}

// guessControlNet makes the config of a ControlNet in a single file.
func guessControlNet(path string) (config controlnet.Config, err error) {
	c, err := checkpoint.OpenFile(path)
	if err != nil {
		return config, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	m, ok := c.Component(ControlNet)
	if !ok {
		return config, fmt.Errorf("load %s: it holds no ControlNet but: %s", path, c.What())
	}
	s, ok := m.Structure()
	if !ok || s.Component != ControlNet {
		return config, fmt.Errorf("load %s: its keys are not those of a ControlNet", path)
	}
	config = controlnet.FromUNet(unet.Default(), s.ConditioningEmbeddingOutChannels)
	config.InChannels, config.ConditioningChannels = s.InChannels, s.ConditioningChannels
	config.Encoder = guessEncoder(config.Encoder, s, c.Family)
	if err := config.Validate(); err != nil {
		return config, fmt.Errorf("load %s: %w", path, err)
	}
	return config, nil
}

func guessVAE(s checkpoint.Structure, family checkpoint.Family) vae.Config {
	c := vae.Default()
	c.InChannels, c.OutChannels, c.LatentChannels = s.InChannels, s.OutChannels, s.LatentChannels
	c.BlockOutChannels, c.LayersPerBlock, c.SampleSize = s.BlockOutChannels, s.LayersPerBlock, 512
	levels := len(s.BlockOutChannels)
	c.DownBlockTypes = slices.Repeat([]string{"DownEncoderBlock2D"}, levels)
	c.UpBlockTypes = slices.Repeat([]string{"UpDecoderBlock2D"}, levels)
	if family == checkpoint.SDXL {
		c.ScalingFactor, c.SampleSize = 0.13025, 1024
	}
	return c
}

// guessText is the config of one of OpenAI's text encoders, or one of OpenCLIP's.
func guessText(s checkpoint.Structure, openCLIP bool) clip.Config {
	c := clip.Default()
	c.VocabSize, c.HiddenSize, c.IntermediateSize = s.VocabSize, s.HiddenSize, s.IntermediateSize
	c.NumHiddenLayers, c.MaxPositionEmbeddings = s.NumHiddenLayers, s.MaxPositionEmbeddings
	c.NumAttentionHeads = max(1, s.HiddenSize/64)
	c.ProjectionDim = s.HiddenSize
	c.BOSTokenID, c.EOSTokenID = 0, 2 // as published: see the text encoder's pooling
	if openCLIP {
		c.HiddenAct = "gelu"
	}
	if s.ProjectionDim > 0 {
		c.Architectures, c.ProjectionDim = []string{clip.WithProjection}, s.ProjectionDim
	}
	return c
}

// guessNoise is the schedule that all families were trained with.
func guessNoise(c *checkpoint.Checkpoint) noise.Config {
	n := noise.StableDiffusion()
	n.ClipSample, n.SetAlphaToOne, n.StepsOffset, n.SkipPRKSteps = false, false, 1, true
	n.ClassName = map[checkpoint.Family]string{
		checkpoint.SD1: "PNDMScheduler", checkpoint.SD2: "DDIMScheduler", checkpoint.SDXL: "EulerDiscreteScheduler",
	}[c.Family]
	if c.Family == checkpoint.SD2 {
		n.PredictionType = noise.VPrediction
	}
	return n
}

// marked is the schedule with what the file says of it by empty tensors, as fine-tunes of SDXL do.
func marked(n noise.Config, m checkpoint.Marks) (noise.Config, error) {
	if m.EDM != "" {
		return n, fmt.Errorf("it holds %s: a model of EDM's noise levels (EDMEulerScheduler), which are not supported",
			m.EDM)
	}
	if m.VPrediction {
		n.PredictionType = noise.VPrediction
	}
	if m.ZeroSNR {
		n = n.WithZeroSNR()
	}
	return n, nil
}
