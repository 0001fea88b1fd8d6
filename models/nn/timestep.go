package nn

import (
	"math"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// Timesteps maps timesteps [batch], of any number type and possibly fractional, to float32 features
// [batch, channels]: cosines, then sines of geometrically falling frequencies (diffusers' Timesteps with
// flip_sin_to_cos; without it the sines come first).
func Timesteps(p Params, timesteps *Node, channels int, flipSinToCos bool, freqShift float64) *Node {
	timesteps.AssertRank(1)
	half := channels / 2
	// f_i = 10000^(-i/(half-freq_shift))
	i := Iota(timesteps.Graph(), shapes.Make(dtypes.Float32, 1, half), 1)
	freqs := Exp(MulScalar(i, -math.Log(10000)/(float64(half)-freqShift)))
	angles := Mul(InsertAxes(ConvertDType(timesteps, dtypes.Float32), -1), freqs) // [batch, half]
	if flipSinToCos {
		return p.Out(Concatenate([]*Node{Cos(angles), Sin(angles)}, -1))
	}
	return p.Out(Concatenate([]*Node{Sin(angles), Cos(angles)}, -1))
}

// TimestepEmbedding maps features [batch, in] to [batch, out] by two linear layers with SiLU between them
// (diffusers' TimestepEmbedding).
func TimestepEmbedding(p Params, x *Node, out int) *Node {
	h := Linear(p.In("linear_1"), x, out)
	return p.Out(Linear(p.In("linear_2"), SiLU(h), out))
}
