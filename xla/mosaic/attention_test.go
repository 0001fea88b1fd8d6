package mosaic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// attend is attention of [heads, width, tokens] by its definition, and its gradients.
func attend(q, k, v, dy array) (y, logs, dq, dk, dv array) {
	y, dq, dk, dv = newArray(q.batch, q.rows, q.columns), newArray(q.batch, q.rows, q.columns),
		newArray(k.batch, k.rows, k.columns), newArray(k.batch, k.rows, k.columns)
	logs = newArray(q.batch, 1, q.columns)
	for b := range q.batch {
		for i := range q.columns {
			p, dp := make([]float64, k.columns), make([]float64, k.columns)
			total := 0.0
			for j := range p {
				s := 0.0
				for d := range q.rows {
					s += *q.at(b, d, i) * *k.at(b, d, j)
				}
				p[j] = math.Exp(s)
				total += p[j]
			}
			*logs.at(b, 0, i) = math.Log(total)
			delta := 0.0
			for j := range p {
				p[j] /= total
				for d := range q.rows {
					*y.at(b, d, i) += p[j] * *v.at(b, d, j)
					*dv.at(b, d, j) += p[j] * *dy.at(b, d, i)
					dp[j] += *v.at(b, d, j) * *dy.at(b, d, i)
				}
				delta += p[j] * dp[j]
			}
			for j := range p {
				for d := range q.rows {
					ds := p[j] * (dp[j] - delta)
					*dq.at(b, d, i) += ds * *k.at(b, d, j)
					*dk.at(b, d, j) += ds * *q.at(b, d, i)
				}
			}
		}
	}
	return y, logs, dq, dk, dv
}

// TestAttentionKernels runs the kernels' operations and compares with attention's definition. They round to bfloat16,
// to 8 bits, between their products.
func TestAttentionKernels(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(a array) array {
		for i := range a.data {
			a.data[i] = bfloat16(rng.NormFloat64())
		}
		return a
	}
	a := Attention{Heads: 2, Width: 8, Queries: 1024, Keys: 256}
	q, k, v, dy := draw(newArray(2, 8, 1024)), draw(newArray(2, 8, 256)), draw(newArray(2, 8, 256)),
		draw(newArray(2, 8, 1024))
	y, logs, dq, dk, dv := attend(q, k, v, dy)
	forward := interpret(a.Forward(), []array{q, k, v})
	compare(t, "y", forward[0], y)
	compare(t, "logs", forward[1], logs)
	backward := interpret(a.Backward(), []array{q, k, v, dy, forward[0], forward[1]})
	compare(t, "dq", backward[0], dq)
	compare(t, "dk", backward[1], dk)
	compare(t, "dv", backward[2], dv)
}

// compare fails where got is further than 1 % of the largest magnitude from want.
func compare(t *testing.T, name string, got, want array) {
	t.Helper()
	most, worst := 0.0, 0.0
	for i, x := range want.data {
		most = max(most, math.Abs(x))
		if d := math.Abs(got.data[i] - x); !(d <= worst) {
			worst = d
		}
	}
	if len(got.data) != len(want.data) || !(worst <= 0.01*most) {
		t.Errorf("%s: off by %g, where the largest is %g", name, worst, most)
	}
}

// TestFits lists the shapes of Stable Diffusion's networks.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		name              string
		a                 Attention
		forward, backward int // pieces of the keys; 0: no kernel
	}{
		{"SD 1.5 at 512, first level", Attention{8, 40, 4096, 4096}, 1, 1},
		{"second level", Attention{8, 80, 1024, 1024}, 1, 1},
		{"third level", Attention{8, 160, 256, 256}, 1, 1},
		{"middle", Attention{8, 160, 64, 64}, 0, 0},
		{"text", Attention{8, 40, 4096, 77}, 0, 0},
		{"SD 2.1 at 768, first level", Attention{5, 64, 9216, 9216}, 2, 2},
		{"SDXL at 1024, second level", Attention{10, 64, 4096, 4096}, 1, 1},
		{"VAE at 512", Attention{1, 512, 4096, 4096}, 2, 8},
	} {
		got := [2]int{c.a.forwardPieces(), c.a.backwardPieces()}
		if want := [2]int{c.forward, c.backward}; c.a.Fits() != (c.forward > 0) || c.a.Fits() && got != want {
			t.Errorf("%s: fits %v in %v pieces, want %v", c.name, c.a.Fits(), got, want)
		}
	}
}

// TestText shows that each operation of the kernels has its line.
func TestText(t *testing.T) {
	text := Attention{2, 8, 256, 256}.Backward().Text()
	for name, want := range map[string]int{
		"tpu.matmul": 5, "math.exp": 1, "tpu.vector_store": 5, "scf.if": 2, "func.func": 10,
	} {
		if got := strings.Count(text, fmt.Sprintf(`"stable_mosaic.%s"(`, name)); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}
