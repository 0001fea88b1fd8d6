// Package sd holds a Stable Diffusion model's networks together, and builds what training and sampling both make of
// them: the text embeddings that each family's UNet reads, the rows of new tokens, LoRAs, the residuals of ControlNets,
// and latents.
package sd

import (
	"limner/models/clip"
	"limner/models/noise"
	"limner/models/unet"
	"limner/models/vae"
)

// The places of the networks' parameters in a tree: the names of their folders in diffusers' layout.
const (
	UNet         = "unet"
	VAE          = "vae"
	TextEncoder  = "text_encoder"
	TextEncoder2 = "text_encoder_2"
	ControlNet   = "controlnet"
)

// Networks are the configs of a model's networks, and its noise schedule.
type Networks struct {
	UNet  unet.Config
	VAE   vae.Config
	Text  clip.Config
	Text2 *clip.Config // of SDXL's second text encoder; nil elsewhere
	Noise noise.Config
}

// Default has the defaults of each network's config, one text encoder and Stable Diffusion's noise schedule.
func Default() Networks {
	return Networks{UNet: unet.Default(), VAE: vae.Default(), Text: clip.Default(), Noise: noise.StableDiffusion()}
}

// XL says whether the model is SDXL.
func (n Networks) XL() bool { return n.Text2 != nil }

// Encoder is a text encoder.
type Encoder struct {
	Name   string // the place of its parameters
	Config clip.Config
}

// TextEncoders are the text encoders, in the order in which their hidden states stand beside each other for the UNet.
func (n Networks) TextEncoders() []Encoder {
	all := []Encoder{{TextEncoder, n.Text}}
	if n.XL() {
		all = append(all, Encoder{TextEncoder2, *n.Text2})
	}
	return all
}
