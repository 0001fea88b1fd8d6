package optim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/xla/patch"
)

// optimizersFile is what testdata/optimizers.py wrote.
type optimizersFile struct {
	Params map[string][]float32
	Grads  []map[string][]float32
	After  map[string][]map[string][]float32
}

// optimizersTree are its parameters.
var optimizersTree = nn.Tree{
	{Key: "dense", Shape: []int{3, 5}, Kind: nn.Dense},
	{Key: "kernel", Shape: []int{3, 3, 2, 4}, Kind: nn.Kernel},
	{Key: "vector", Shape: []int{6}},
}

// memoryOrder turns values in the layout of a file to that of memory.
func memoryOrder(spec nn.Spec, file []float32) parity.Tensor {
	positions := make([]float32, spec.Size())
	for i := range positions {
		positions[i] = float32(i)
	}
	x := parity.Tensor{Data: make([]float32, len(file)), Shape: spec.Shape}
	for i, at := range parity.FileOrder(spec, positions).Data {
		x.Data[int(at)] = file[i]
	}
	return x
}

func TestGoldenOptimizers(t *testing.T) {
	raw, err := os.ReadFile("testdata/optimizers.json")
	if err != nil {
		t.Fatal(err)
	}
	var file optimizersFile
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	settings := map[string]Optimizer{}
	for name := range file.After {
		o := DefaultOptimizer()
		o.Name, _, _ = strings.Cut(name, "_")
		o.ScaleParameter, o.RelativeStep = name == "adafactor_scaled", name == "adafactor_relative"
		settings[name] = o
	}
	var inputs []parity.Tensor
	for _, spec := range optimizersTree {
		inputs = append(inputs, memoryOrder(spec, file.Params[spec.Key]))
		for _, grads := range file.Grads {
			inputs = append(inputs, memoryOrder(spec, grads[spec.Key]))
		}
	}
	steps := len(file.Grads)
	got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for name, o := range settings {
			for i, spec := range optimizersTree {
				nodes := in[i*(1+steps) : (i+1)*(1+steps)]
				for n, param := range stepsOf(o.Method(), spec, nodes[0], nodes[1:], 1e-2) {
					out[fmt.Sprintf("%s.%s.%d", name, spec.Key, n)] = param
				}
			}
		}
	})
	for name, after := range file.After {
		for n := range steps {
			for _, spec := range optimizersTree {
				key := fmt.Sprintf("%s.%s.%d", name, spec.Key, n)
				want := parity.Tensor{Data: after[n][spec.Key], Shape: spec.FileShape()}
				parity.Check(t, key, parity.FileOrder(spec, got[key].Data), want, 2e-6)
			}
		}
	}
}

// stepsOf are a parameter's values after each step on the gradients.
func stepsOf(m Method, spec nn.Spec, param *Node, grads []*Node, learningRate float64) []*Node {
	g := param.Graph()
	key := func(int) *Node { return Const(g, []uint32{1, 2}) }
	c := Change{Spec: spec, Param: param, Finite: Const(g, true), Once: patch.Barrier, Key: key}
	for _, slot := range m.Slots(spec) {
		c.State = append(c.State, Zeros(g, shapes.Make(slot.DType, slot.Shape...)))
	}
	var after []*Node
	for n, grad := range grads {
		c.Grad, c.Rates = grad, nil
		for _, rate := range m.Rates(learningRate, n+1) {
			c.Rates = append(c.Rates, Const(g, float32(rate)))
		}
		c.Param, c.State = m.Update(c)
		after = append(after, c.Param)
	}
	return after
}

// The ratios are those of the paper's code, and every number goes to the nearest.
func TestQuantization(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	codes := parity.Tensor{Data: make([]float32, 256), Shape: []int{256}}
	for i := range codes.Data {
		codes.Data[i] = float32(i)
	}
	const size = 3*blockSize + 7
	x := parity.Tensor{Data: make([]float32, size), Shape: []int{size}}
	for i := range x.Data {
		x.Data[i] = float32(math.Pow(10, -9*rng.Float64()) * float64(1-2*(i%2)))
		if i < blockSize {
			x.Data[i] = 0
		}
	}
	positive := x.Map(func(v float32) float32 { return float32(math.Abs(float64(v))) })
	got := parity.Run(t, parity.Model{}, []parity.Tensor{codes, x, positive},
		func(_ nn.Params, in []*Node, out map[string]*Node) {
			for name, sign := range map[string]signedness{"signed": signed, "unsigned": unsigned} {
				out[name] = ratioOf(in[0], sign)
				node := in[1]
				if sign == unsigned {
					node = in[2]
				}
				codes, absmax := quantize(node, sign)
				out["again "+name] = dequantize(codes, absmax, node.Shape(), sign)
			}
		})
	for name, sign := range map[string]float64{"signed": 1, "unsigned": 2} {
		// Dettmers' code, part by part.
		want := []float64{0, 1}
		for decade := range 7 {
			parts := int(math.Ldexp(sign, decade))
			for i := range parts {
				low, high := 0.1+0.9*float64(i)/float64(parts), 0.1+0.9*float64(i+1)/float64(parts)
				middle := math.Pow10(decade-6) * (low + high) / 2
				want = append(want, middle)
				if name == "signed" {
					want = append(want, -middle)
				}
			}
		}
		slices.Sort(want)
		ratios := slices.Clone(got[name].Data)
		slices.Sort(ratios)
		for i, v := range ratios {
			if math.Abs(float64(v)-want[i]) > 1e-6*math.Abs(want[i]) {
				t.Fatalf("%s: ratio %d is %g, want %g", name, i, v, want[i])
			}
		}
		input := x
		if name == "unsigned" {
			input = positive
		}
		for start := 0; start < size; start += blockSize {
			block := input.Data[start:min(start+blockSize, size)]
			var largest float64
			for _, v := range block {
				largest = max(largest, math.Abs(float64(v)))
			}
			for i, v := range block {
				again, nearest := float64(got["again "+name].Data[start+i]), math.Inf(1)
				for _, ratio := range want {
					nearest = min(nearest, math.Abs(ratio*largest-float64(v)))
				}
				if off := math.Abs(again - float64(v)); !(off <= nearest+2e-7*largest) {
					t.Fatalf("%s: %g came back as %g, off by %g; the nearest is off by %g",
						name, v, again, off, nearest)
				}
			}
		}
	}
}

// Rounding by chance gives one of both neighbours, and on average the number.
func TestRoundByChance(t *testing.T) {
	const size = 1 << 16
	value := float32(1 + 1.0/(1<<7)*0.25) // a quarter of the way between two neighbours
	x := parity.Tensor{Data: slices.Repeat([]float32{value}, size), Shape: []int{size}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{x}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		out["x"] = ConvertDType(roundByChance(in[0], Const(in[0].Graph(), []uint32{1, 2})), dtypes.Float32)
	})
	up := 0
	for _, v := range got["x"].Data {
		switch v {
		case 1 + 1.0/(1<<7):
			up++
		case 1:
		default:
			t.Fatalf("got %g", v)
		}
	}
	if share := float64(up) / size; math.Abs(share-0.25) > 0.01 {
		t.Errorf("%g of the numbers were rounded up, want a quarter", share)
	}
}

// With moments of 16 and 8 bits a parameter goes where it goes with 32, to within a few hundredths of the way.
func TestSmallMoments(t *testing.T) {
	const size, steps, rate = 64 * 64, 8, 1e-2
	spec := nn.Spec{Key: "w", Shape: []int{64, 64}, Kind: nn.Dense}
	rng := rand.New(rand.NewPCG(3, 4))
	inputs := []parity.Tensor{{Data: make([]float32, size), Shape: spec.Shape}}
	for range steps {
		grad := parity.Tensor{Data: make([]float32, size), Shape: spec.Shape}
		for i := range grad.Data {
			grad.Data[i] = float32(1 + rng.NormFloat64())
		}
		inputs = append(inputs, grad)
	}
	o := DefaultOptimizer()
	got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for _, dtype := range MomentsDTypes {
			o.Moments = dtype
			after := stepsOf(o.Method(), spec, in[0], in[1:], rate)
			out[dtype] = after[len(after)-1]
		}
	})
	for _, dtype := range []string{MomentsBFloat16, Moments8Bit} {
		var squares float64
		for i, want := range got[MomentsFloat32].Data {
			off := float64(got[dtype].Data[i] - want)
			squares += off * off / size
		}
		if off := math.Sqrt(squares) / (steps * rate); off > 0.05 || off == 0 {
			t.Errorf("%s: off by %g of the way", dtype, off)
		}
	}
}

func TestOptimizerErrors(t *testing.T) {
	o := Optimizer{
		Name: "sgd", Moments: "f8", WeightDecay: -1, MaxGradNorm: math.NaN(),
		AdamW: AdamW{Beta1: 1}, Lion: Lion{Beta2: 2},
	}
	err := o.Validate()
	if err == nil {
		t.Fatal("nothing was found")
	}
	for _, want := range []string{
		`optimizer: got "sgd", supported: adamw, lion, adafactor`, `adam_moments_dtype: got "f8"`,
		"adam_weight_decay: got -1", "max_grad_norm: got NaN", "adam_beta1: got 1", "adam_epsilon: got 0",
		"lion_beta2: got 2", "adafactor_eps1: got 0", "adafactor_decay_rate: got 0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}
