package unet

import (
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
)

// transformer2D is diffusers' Transformer2DModel: the pixels of an image attend to each other and to the text.
type transformer2D struct {
	heads      int
	layers     int // the depth
	normGroups int
	linear     bool // proj_in and proj_out are linear layers, not 1×1 convolutions: only the weights' shapes differ
	upcast     bool // queries times keys in float32
}

// Forward maps x [batch, height, width, channels] to the same shape; text is [batch, tokens, cross_attention_dim]. If x
// has fewer rows than text, its rows are repeated before the first attention to the text.
func (t transformer2D) Forward(p nn.Params, x, text *Node) *Node {
	return p.Block(t.forward, x, text)
}

func (t transformer2D) forward(p nn.Params, in ...*Node) *Node {
	x, text := in[0], in[1]
	n, height, width, c := x.Shape().Dim(0), x.Shape().Dim(1), x.Shape().Dim(2), x.Shape().Dim(3)
	// This norm's epsilon is 1e-6 whatever norm_eps says.
	h := nn.GroupNorm(p.In("norm"), x, t.normGroups, 1e-6)
	if t.linear {
		h = nn.Linear(p.In("proj_in"), Reshape(h, n, height*width, c), c)
	} else {
		h = Reshape(nn.Conv2D(p.In("proj_in"), h, c, 1), n, height*width, c)
	}
	for i := range t.layers {
		h = t.block(p.At("transformer_blocks", i), h, text)
	}
	n = h.Shape().Dim(0)
	if t.linear {
		h = Reshape(nn.Linear(p.In("proj_out"), h, c), n, height, width, c)
	} else {
		h = nn.Conv2D(p.In("proj_out"), Reshape(h, n, height, width, c), c, 1)
	}
	return p.Out(nn.AddRows(h, x))
}

// block is diffusers' BasicTransformerBlock on x [batch, tokens, channels]: self-attention, attention to the text and
// a feed-forward network, each behind a LayerNorm and around a shortcut.
func (t transformer2D) block(p nn.Params, x, text *Node) *Node {
	const eps = 1e-5
	h := nn.LayerNorm(p.In("norm1"), x, eps)
	x = Add(x, t.attention(p.In("attn1"), h, h))
	h = nn.LayerNorm(p.In("norm2"), x, eps)
	x = nn.AddRows(x, t.attention(p.In("attn2"), h, text))
	h = nn.LayerNorm(p.In("norm3"), x, eps)
	return p.Out(Add(x, feedForward(p.In("ff"), h)))
}

// attention lets x [batch, queries, channels] attend to source [batch, keys, width].
func (t transformer2D) attention(p nn.Params, x, source *Node) *Node {
	c := x.Shape().Dim(-1)
	q := nn.LinearNoBias(p.In("to_q"), x, c)
	k := nn.LinearNoBias(p.In("to_k"), source, c)
	v := nn.LinearNoBias(p.In("to_v"), source, c)
	if t.upcast {
		q, k = ConvertDType(q, dtypes.Float32), ConvertDType(k, dtypes.Float32)
	}
	q, k = nn.SameRows(q, k)
	h := nn.ScaledDotProduct(p, q, k, v, t.heads, nil)
	return p.Out(nn.Linear(p.In("to_out.0"), h, c))
}

// ReadsText says whether a parameter, or an adapter's matrix, belongs to a layer whose only input is the text, so that
// its output is the same at all timesteps: the keys and values of cross-attention.
func ReadsText(key string) bool {
	return strings.Contains(key, ".attn2.to_k.") || strings.Contains(key, ".attn2.to_v.")
}

// feedForward widens x [batch, tokens, channels] four times through GEGLU (Shazeer 2020, arXiv:2002.05202) and back.
func feedForward(p nn.Params, x *Node) *Node {
	c := x.Shape().Dim(-1)
	both := nn.Linear(p.In("net.0.proj"), x, 8*c)
	value := Slice(both, AxisRange(), AxisRange(), AxisRange(0, 4*c))
	gate := Slice(both, AxisRange(), AxisRange(), AxisRange(4*c))
	h := p.In("net.0").Out(Mul(value, nn.GELU(gate)))
	return p.Out(nn.Linear(p.In("net.2"), h, c))
}
