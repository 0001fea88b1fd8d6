package vae

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
)

// Tree lists the network's parameters, the encoder's and the decoder's. The config must be valid.
func (c Config) Tree() nn.Tree {
	return nn.Declare(func(g *Graph, p nn.Params) {
		side := c.Scale()
		mean, _ := c.Encode(p, Zeros(g, shapes.Make(dtypes.Float32, 1, side, side, c.InChannels)))
		c.Decode(p, mean)
	})
}
