package clip

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
)

// TokenTable is the key of the token embeddings [vocab_size, hidden_size].
const TokenTable = "text_model.embeddings.token_embedding.weight"

// Tree lists the network's parameters. The config must be valid.
func (c Config) Tree() nn.Tree {
	return nn.Declare(func(g *Graph, p nn.Params) {
		c.Forward(p, Zeros(g, shapes.Make(dtypes.Int32, 1, 1)), dtypes.Float32)
	})
}
