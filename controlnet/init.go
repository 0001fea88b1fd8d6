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

// Init gives a new ControlNet its values: a copy of the UNet's encoder and time embedding where it has the same key,
// the values of nn.Init (zero convolutions, a random conditioning embedding) elsewhere.
func (c Config) Init(unet nn.Values, seed uint64) nn.Values {
	tree := c.Tree()
	values := nn.InitValues(tree, seed)
	for _, spec := range tree {
		if strings.HasPrefix(spec.Key, "controlnet_") {
			continue
		}
		if copied, ok := unet[spec.Key]; ok {
			values[spec.Key] = append([]float32{}, copied...)
		}
	}
	return values
}
