package xla

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// attentionKernel is multi-head attention on q [batch, queries, channels], k and v [batch, keys, channels] by a kernel
// of the devices' own. It returns nil for shapes and dtypes that it does not take.
type attentionKernel = func(q, k, v *Node, heads int) *Node

// AttentionKernel is the devices' own attention, see [mosaic.Attend]; nil where they have none, or one that was found
// wrong.
func (b *Backend) AttentionKernel() func(q, k, v *Node, heads int) *Node { return b.attention }

// What the kernel is tried on: two images a device, of 256 tokens and two heads of 40 channels.
const (
	triedTokens = 256
	triedHeads  = 2
	triedWidth  = 40
)

// tryAttention runs a kernel once on the devices, and fails where the attention or its gradients are further from what
// XLA makes of attention's definition than bfloat16 explains.
func (b *Backend) tryAttention(ctx context.Context, kernel attentionKernel) (err error) {
	shape := shapes.Make(dtypes.BFloat16, 2*b.n, triedTokens, triedHeads*triedWidth)
	f := Function{Name: "try_attention"}
	rng := rand.New(rand.NewPCG(1, 1))
	var inputs []*Array
	defer func() {
		for _, a := range inputs {
			err = errors.Join(err, a.Free())
		}
	}()
	for _, name := range []string{"q", "k", "v", "dy"} {
		f.Inputs = append(f.Inputs, Value{Name: name, Shape: shape, Sharding: Batch})
		data := make([]byte, shape.Memory())
		for i := 0; i < len(data); i += 2 {
			bits := math.Float32bits(float32(rng.NormFloat64())) >> 16 // the upper half of a float32 is a bfloat16
			data[i], data[i+1] = byte(bits), byte(bits>>8)
		}
		a, err := PutBytes(b, data, shape, Batch)
		if err != nil {
			return err
		}
		inputs = append(inputs, a)
	}
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		got, want := withGradients(kernel, in), withGradients(plainAttention, in)
		for i := range got {
			most := ReduceAllMax(Abs(want[i]))
			outputs = append(outputs, Div(ReduceAllMax(Abs(Sub(got[i], want[i]))), most))
		}
		return nil, outputs
	}
	program, err := b.Compile(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	results, err := program.Run(nil, inputs...)
	if err != nil {
		return err
	}
	inputs = append(inputs, results...) // to be freed
	const tolerance = 0.03
	for i, name := range []string{
		"attention", "gradient of the queries", "gradient of the keys", "gradient of the values",
	} {
		off, err := Get[float32](results[i])
		if err != nil {
			return err
		}
		if !(off[0] <= tolerance) {
			return fmt.Errorf("%s: off by %.3g of its largest value, want at most %g", name, off[0], tolerance)
		}
	}
	return nil
}

// withGradients are the attention and its gradients by q, k and v, in float32, where in are these and the gradient of
// the attention.
func withGradients(kernel attentionKernel, in []*Node) []*Node {
	y := kernel(in[0], in[1], in[2], triedHeads)
	loss := ReduceAllSum(ConvertDType(Mul(y, in[3]), dtypes.Float32))
	out := append([]*Node{y}, Gradient(loss, in[:3]...)...)
	for i := range out {
		out[i] = ConvertDType(out[i], dtypes.Float32)
	}
	return out
}

// plainAttention is attention by its definition, in float32.
func plainAttention(q, k, v *Node, heads int) *Node {
	batch, tokens, channels := q.Shape().Dim(0), q.Shape().Dim(1), q.Shape().Dim(2)
	split := func(x *Node) *Node {
		return Reshape(ConvertDType(x, dtypes.Float32), batch, tokens, heads, channels/heads)
	}
	scores := DotGeneral(MulScalar(split(q), 1/math.Sqrt(float64(channels/heads))), []int{3}, []int{0, 2},
		split(k), []int{3}, []int{0, 2})
	// [batch, heads, tokens, width]
	y := DotGeneral(Softmax(scores, -1), []int{3}, []int{0, 1}, split(v), []int{1}, []int{0, 2})
	return ConvertDType(Reshape(TransposeAllDims(y, 0, 2, 1, 3), batch, tokens, channels), q.DType())
}
