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
		sample, timesteps, context := c.Inputs(g, c.InChannels)
		c.Forward(p, sample, timesteps, context, nil)
	})
}

// Inputs makes the smallest inputs that the network takes, for declaring its parameters.
func (c Encoder) Inputs(g *Graph, channels int) (sample, timesteps *Node, context Context) {
	side := 1 << len(c.BlockOutChannels)
	sample = Zeros(g, shapes.Make(dtypes.Float32, 1, side, side, channels))
	timesteps = Zeros(g, shapes.Make(dtypes.Int32, 1))
	context.Text = Zeros(g, shapes.Make(dtypes.Float32, 1, 1, c.CrossAttentionDim))
	if c.AdditionEmbedType != nil {
		context.Pooled = Zeros(g, shapes.Make(dtypes.Float32, 1, c.PooledDim()))
		context.TimeIDs = Zeros(g, shapes.Make(dtypes.Float32, 1, TimeIDs))
	}
	return sample, timesteps, context
}
