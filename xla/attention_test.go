package xla_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla"
)

// attention is attention among tokens and its gradient, with an image on each of four devices.
func attention(b *xla.Backend, tokens, heads, width int) xla.Function {
	shape := shapes.Make(dtypes.BFloat16, 4, tokens, heads*width)
	f := xla.Function{Name: "attention", Outputs: []xla.Sharding{xla.Batch, xla.Batch, xla.Batch, xla.Batch}}
	for i := range 4 {
		f.Inputs = append(f.Inputs, xla.Value{Name: fmt.Sprintf("x%d", i), Shape: shape, Sharding: xla.Batch})
	}
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		y := b.AttentionKernel()(in[0], in[1], in[2], heads)
		loss := ReduceAllSum(ConvertDType(Mul(y, in[3]), dtypes.Float32))
		return nil, append(Gradient(loss, in[:3]...), y)
	}
	return f
}

// TestAttentionKernel compiles the kernels for the shapes of Stable Diffusion's networks: they fit a core's memory,
// each device has its own images, and no matrix of scores gets to main memory.
func TestAttentionKernel(t *testing.T) {
	b := openPlan(t, "v4-8")
	for _, c := range []struct{ tokens, heads, width int }{
		{4096, 8, 40}, {1024, 8, 80}, {256, 8, 160}, // SD 1.5 at 512
		{9216, 5, 64}, {2304, 10, 64}, // SD 2.1 at 768
		{4096, 10, 64},                                  // SDXL at 1024
		{4096, 1, 512}, {9216, 1, 512}, {16384, 1, 512}, // VAE
	} {
		p, err := b.Compile(t.Context(), attention(b, c.tokens, c.heads, c.width))
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		text := p.StableHLO()
		if got := strings.Count(text, "tpu_custom_call"); got < 2 {
			t.Errorf("%v: %d calls to kernels, want at least 2", c, got)
		}
		m := p.Memory()
		t.Logf("%v: %d kernels, peak %.1f MB of %.1f MB arguments",
			c, strings.Count(text, "tpu_custom_call"), float64(m.Peak)/1e6, float64(m.Arguments)/1e6)
		if scores := int64(2 * c.tokens * c.tokens * c.heads); m.Peak-m.Arguments > scores+8*m.Arguments {
			t.Errorf("%v: peak %d bytes above the arguments' %d", c, m.Peak-m.Arguments, m.Arguments)
		}
	}
}
