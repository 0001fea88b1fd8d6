package vae

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
)

// Tree lists the network's parameters, the encoder's and the decoder's. The config must be valid.
func (c Config) Tree() nn.Tree { return append(c.EncoderTree(), c.DecoderTree()...) }

// EncoderTree lists the parameters that Encode reads.
func (c Config) EncoderTree() nn.Tree {
	return nn.Declare(func(g *Graph, p nn.Params) {
		c.Encode(p, Zeros(g, shapes.Make(dtypes.Float32, 1, c.Scale(), c.Scale(), c.InChannels)))
	})
}

// DecoderTree lists the parameters that Decode reads.
func (c Config) DecoderTree() nn.Tree {
	return nn.Declare(func(g *Graph, p nn.Params) {
		c.Decode(p, Zeros(g, shapes.Make(dtypes.Float32, 1, 1, 1, c.LatentChannels)))
	})
}
