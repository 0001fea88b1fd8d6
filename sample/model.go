package sample

import (
	"fmt"
	"io"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/controlnet"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/sd"
	"limner/xla/program"
)

// Model is what a pipeline samples with.
type Model struct {
	Pipeline    *diffusers.Pipeline
	ControlNets []controlnet.Config // none: images from text alone
	// below unet, vae, text_encoder, with SDXL text_encoder_2, and ControlNetName of each ControlNet
	Weights nn.Source
	LoRAs   []*diffusers.LoRA // applied at run time
	Compute dtypes.DType      // of activations and weights; the zero value is float32
	// decode tiles of one image at a time on each device, which takes less memory; whole images always are
	VAESlicing bool
	VAETiling  bool      // decode large images in tiles, likewise; where they overlap, the image is not quite the same
	Log        io.Writer // hears of compiling, and of prompts that are long; nil: silence
	// Logged are the lines on prompts that Log has, which pipelines of one job share; nil: each has its own.
	Logged map[string]bool

	// Resident are parameters that are on the devices already, such as those of a network in training. They are read
	// where they are, and neither copied nor freed.
	Resident program.Arrays
	// Added are tokens in training. Like the tables of token embeddings they are resident.
	Added sd.TokenRows
}

// ControlNetName is the place of a ControlNet's parameters.
func ControlNetName(i int) string {
	if i == 0 {
		return diffusers.ControlNet
	}
	return fmt.Sprintf("%s_%d", diffusers.ControlNet, i)
}

// inpaints says whether the UNet is told the mask and the latents of what stays, beside the latents.
func (m Model) inpaints() bool {
	return m.Pipeline.UNet.InChannels == 2*m.Pipeline.VAE.LatentChannels+1
}
