package sample

import (
	"fmt"
	"strings"

	"limner/models/nn"
	"limner/sample/schedule"
)

// trees list what each program reads of the parameters; the matrices of LoRAs stand at the end of text, project and
// step.
type trees struct {
	text, project, step, encode, decode nn.Tree
	projections                         []projection // of project
	conditions                          []nn.Tree    // by ControlNet: of its conditioning embedding
}

// stepKey is what the denoising step is compiled for, beside the shape.
type stepKey struct {
	guidance, rescale, guess bool
	chunks                   int    // of the text embeddings
	controls                 uint64 // bit i: ControlNet i is at work
	masked                   bool
	threshold                schedule.Threshold
}

// String is what is worth saying of a key.
func (k stepKey) String() string {
	var text strings.Builder
	if k.guidance {
		text.WriteString(" with guidance")
	}
	if k.masked {
		text.WriteString(", inpainting")
	}
	if k.chunks > 1 {
		fmt.Fprintf(&text, ", prompts of %d chunks", k.chunks)
	}
	return text.String()
}

// The keys and values of attention to the text follow from the prompts alone. A round computes them once, in a program
// of their own, and its steps are given them.

// projection is a layer that makes keys or values of the text.
type projection struct {
	path     string // from the network's name on
	channels int
	control  int // the ControlNet that it is of; -1 in the UNet
}

// projectionKey is what the projections are compiled for, beside the shape.
type projectionKey struct {
	guidance, guess bool
	chunks          int // of the text embeddings
}

// projection is the key of the projections that a step is given.
func (k stepKey) projection() projectionKey {
	return projectionKey{guidance: k.guidance, guess: k.guess, chunks: k.chunks}
}

// conditionalOnly says whether a layer sees no negative prompts, as a ControlNet in guess mode.
func (k projectionKey) conditionalOnly(layer projection) bool {
	return layer.control >= 0 && k.guidance && k.guess
}

// An image that does not fit into a device's memory as a whole is decoded one tile at a time (tiling), of one image on
// each device (slicing) or of all. Tiles overlap by a quarter and are blended there, as by diffusers'
// AutoencoderKL.tiled_decode.

// pieceKey is what a piece's program is compiled for: images, and the height and width of latents.
type pieceKey struct{ images, height, width int }
