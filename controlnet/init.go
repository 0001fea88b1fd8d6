package controlnet

import (
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
)

// Tree lists the network's parameters. The config must be valid.
func (c Config) Tree() nn.Tree {
	return nn.Declare(func(g *Graph, p nn.Params) {
		sample, timesteps, context := c.Inputs(g, c.InChannels)
		side := sample.Shape().Dim(1) * c.Stride()
		cond := Zeros(g, shapes.Make(dtypes.Float32, 1, side, side, c.ConditioningChannels))
		c.Forward(p, sample, timesteps, context, cond)
	})
}

// Init gives the starting values of a new ControlNet: copied lists the parameters that are copied from the UNet's of
// the same keys, its encoder and time embedding; drawn holds the values of all others (zero convolutions, a random
// conditioning embedding).
func (c Config) Init(unet nn.Tree, seed uint64) (drawn nn.Values, copied nn.Tree) {
	keys := map[string]bool{}
	for _, spec := range unet {
		keys[spec.Key] = true
	}
	var rest nn.Tree
	for _, spec := range c.Tree() {
		if keys[spec.Key] && !strings.HasPrefix(spec.Key, "controlnet_") {
			copied = append(copied, spec)
		} else {
			rest = append(rest, spec)
		}
	}
	return nn.InitValues(rest, seed), copied
}
