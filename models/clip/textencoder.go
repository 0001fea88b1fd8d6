package clip

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
)

// Output is what the text encoder computes.
type Output struct {
	LastHiddenState *Node   // [batch, tokens, hidden_size], after the final norm: the text embeddings of SD 1.x
	Pooled          *Node   // [batch, hidden_size], LastHiddenState at the end-of-text token
	TextEmbeds      *Node   // [batch, projection_dim], Pooled through text_projection; nil in a network without one
	HiddenStates    []*Node // the input of each layer, then the last layer's output, before the final norm
}

// Forward is transformers' CLIPTextModel or CLIPTextModelWithProjection on token ids [batch, tokens], tokens being at
// most max_position_embeddings (Radford et al. 2021, arXiv:2103.00020). Activations are in the given dtype.
func (c Config) Forward(p nn.Params, ids *Node, dtype dtypes.DType) Output {
	ids.AssertRank(2)
	projection := p.In("text_projection")
	p = p.In("text_model")
	tokens := ids.Shape().Dim(1)
	tokenTable := p.In("embeddings.token_embedding").Param("weight", nn.Table, nn.InitNormal, 0,
		c.VocabSize, c.HiddenSize)
	positionTable := p.In("embeddings.position_embedding").Param("weight", nn.Table, nn.InitNormal, 0,
		c.MaxPositionEmbeddings, c.HiddenSize)
	positions := Slice(positionTable, AxisRange(0, tokens), AxisRange())
	h := Add(Gather(tokenTable, InsertAxes(ids, -1)), InsertAxes(positions, 0))
	h = ConvertDType(h, dtype)

	mask := causalMask(ids.Graph(), tokens)
	out := Output{HiddenStates: []*Node{h}}
	for i := range c.NumHiddenLayers {
		h = p.At("encoder.layers", i).Block(func(p nn.Params, x ...*Node) *Node { return c.layer(p, x[0], mask) }, h)
		out.HiddenStates = append(out.HiddenStates, h)
	}
	out.LastHiddenState = c.FinalNorm(p, h)
	out.Pooled = c.pool(out.LastHiddenState, ids)
	if c.Projects() {
		out.TextEmbeds = nn.LinearNoBias(projection, out.Pooled, c.ProjectionDim)
	}
	return out
}

// FinalNorm is the norm after the last layer; with clip skip it is applied to an earlier hidden state. p is at
// text_model.
func (c Config) FinalNorm(p nn.Params, h *Node) *Node {
	return nn.LayerNorm(p.In("final_layer_norm"), h, c.LayerNormEps)
}

// layer is transformers' CLIPEncoderLayer on h [batch, tokens, hidden_size].
func (c Config) layer(p nn.Params, h, mask *Node) *Node {
	x := nn.LayerNorm(p.In("layer_norm1"), h, c.LayerNormEps)
	q := nn.Linear(p.In("self_attn.q_proj"), x, c.HiddenSize)
	k := nn.Linear(p.In("self_attn.k_proj"), x, c.HiddenSize)
	v := nn.Linear(p.In("self_attn.v_proj"), x, c.HiddenSize)
	x = nn.ScaledDotProduct(p, q, k, v, c.NumAttentionHeads, mask)
	h = Add(h, nn.Linear(p.In("self_attn.out_proj"), x, c.HiddenSize))

	x = nn.LayerNorm(p.In("layer_norm2"), h, c.LayerNormEps)
	x = nn.Linear(p.In("mlp.fc1"), x, c.IntermediateSize)
	if c.HiddenAct == "gelu" {
		x = nn.GELU(x)
	} else {
		x = nn.QuickGELU(x)
	}
	return p.Out(Add(h, nn.Linear(p.In("mlp.fc2"), x, c.HiddenSize)))
}

// pool picks h [batch, tokens, channels] at the first end-of-text token. Configs written before transformers 4.24 say
// eos_token_id 2, which is wrong: for them that is the token with the largest id.
func (c Config) pool(h, ids *Node) *Node {
	score := ids
	if c.EOSTokenID != 2 {
		score = ConvertDType(Equal(ids, Scalar(ids.Graph(), ids.DType(), c.EOSTokenID)), dtypes.Int32)
	}
	at := OneHot(ArgMax(score, -1, dtypes.Int32), ids.Shape().Dim(1), h.DType()) // [batch, tokens]
	return ReduceSum(Mul(h, InsertAxes(at, -1)), 1)
}

// causalMask [1, 1, tokens, tokens] is 0 where a token may attend, to itself and earlier ones, and hugely negative
// elsewhere.
func causalMask(g *Graph, tokens int) *Node {
	rows := Iota(g, shapes.Make(dtypes.Int32, tokens, tokens), 0)
	columns := Iota(g, shapes.Make(dtypes.Int32, tokens, tokens), 1)
	zero, low := Scalar(g, dtypes.Float32, 0), Scalar(g, dtypes.Float32, -1e30)
	shape := []int{tokens, tokens}
	mask := Where(GreaterThan(columns, rows), BroadcastToDims(low, shape...), BroadcastToDims(zero, shape...))
	return InsertAxes(mask, 0, 0)
}
