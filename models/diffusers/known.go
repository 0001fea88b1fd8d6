package diffusers

import (
	"fmt"
	"slices"
	"strings"

	"limner/models/clip"
	"limner/models/sd"
	"limner/models/unet"
)

// Families are the names of the models whose structure is known without their files.
var Families = []string{"sd15", "sd21", "sdxl"}

// Family is the structure of Stable Diffusion 1.5, 2.1 or XL, without weights.
func Family(name string) (*Pipeline, error) {
	p := &Pipeline{ClassName: "StableDiffusionPipeline", Networks: sd.Default()}
	p.VAE.BlockOutChannels, p.VAE.LayersPerBlock = []int{128, 256, 512, 512}, 2
	p.VAE.DownBlockTypes = slices.Repeat([]string{"DownEncoderBlock2D"}, 4)
	p.VAE.UpBlockTypes = slices.Repeat([]string{"UpDecoderBlock2D"}, 4)
	p.Text.HiddenSize, p.Text.IntermediateSize, p.Text.NumAttentionHeads = 768, 3072, 12
	p.UNet.CrossAttentionDim = 768
	pad := clip.PadEnd
	switch name {
	case "sd15":
	case "sd21":
		pad = clip.PadExclamation
		p.UNet.CrossAttentionDim, p.UNet.LinearProjection, p.UNet.AttentionHeadDim = 1024, true,
			unet.PerLevel{5, 10, 20, 20}
		p.Text.HiddenSize, p.Text.IntermediateSize, p.Text.NumAttentionHeads, p.Text.NumHiddenLayers = 1024,
			4096, 16, 23
		p.Noise.PredictionType = "v_prediction"
	case "sdxl":
		p.ClassName = "StableDiffusionXLPipeline"
		p.UNet = xlUNet()
		text := p.Text
		text.Architectures = []string{clip.WithProjection}
		text.HiddenSize, text.IntermediateSize, text.NumAttentionHeads, text.NumHiddenLayers, text.ProjectionDim = 1280,
			5120, 20, 32, 1280
		p.Text2, p.ForceZeros = &text, true
		var err error
		if p.Tokenizer2, err = clip.Standard(clip.PadExclamation); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("got model %s, want %s", name, strings.Join(Families, ", "))
	}
	var err error
	p.Tokenizer, err = clip.Standard(pad)
	return p, err
}

// xlUNet is that of Stable Diffusion XL.
func xlUNet() unet.Config {
	c := unet.Default()
	c.CrossAttentionDim, c.LinearProjection, c.AttentionHeadDim = 2048, true, unet.PerLevel{5, 10, 20}
	c.BlockOutChannels, c.TransformerLayers = []int{320, 640, 1280}, unet.PerLevel{1, 2, 10}
	c.DownBlockTypes = []string{"DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"}
	c.UpBlockTypes = []string{"CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
	kind, channels, width := "text_time", 256, 2816
	c.AdditionEmbedType, c.AdditionTimeEmbedDim, c.AdditionInputDim = &kind, &channels, &width
	return c
}
