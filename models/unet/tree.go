package unet

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
)

// Tree lists the network's parameters. The config must be valid.
func (c Config) Tree() nn.Tree {
	return nn.Declare(func(g *Graph, p nn.Params) {
		sample, timesteps, text := c.Inputs(g)
		c.Forward(p, sample, timesteps, text, nil)
	})
}

// Inputs makes the smallest inputs that the network takes, for declaring its parameters.
func (c Config) Inputs(g *Graph) (sample, timesteps, text *Node) {
	side := 1 << len(c.BlockOutChannels)
	sample = Zeros(g, shapes.Make(dtypes.Float32, 1, side, side, c.InChannels))
	timesteps = Zeros(g, shapes.Make(dtypes.Int32, 1))
	text = Zeros(g, shapes.Make(dtypes.Float32, 1, 1, c.CrossAttentionDim))
	return sample, timesteps, text
}
