package optim

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/xla/random"
)

// The values of Optimizer.Moments.
const (
	MomentsFloat32  = "f32"
	MomentsBFloat16 = "bf16" // rounded up or down by chance, so that small changes add up
	Moments8Bit     = "8bit" // in blocks, to the nearest, see quantize.go; parameters below 4096 elements keep float32
)

// MomentsDTypes are the ways of keeping moments.
var MomentsDTypes = []string{MomentsFloat32, MomentsBFloat16, Moments8Bit}

// least8Bit is the size of the smallest parameter whose moments have 8 bits, as in bitsandbytes.
const least8Bit = 4096

// moments is how running means of gradients, or of their squares, are kept from step to step.
type moments struct{ dtype string }

// Slots are what a moment of a parameter is kept in.
func (m moments) slots(name string, spec nn.Spec) []Slot {
	switch {
	case m.quantized(spec.Size()):
		blocks := blocksOf(spec.Size())
		return []Slot{
			{name, []int{blocks, blockSize}, nn.Codes, dtypes.Uint8},
			{name + "_absmax", []int{blocks}, nn.Vector, dtypes.Float32},
		}
	case m.dtype == MomentsBFloat16:
		return []Slot{{name, spec.Shape, spec.Kind, dtypes.BFloat16}}
	}
	return []Slot{{name, spec.Shape, spec.Kind, dtypes.Float32}}
}

func (m moments) quantized(size int) bool { return m.dtype == Moments8Bit && size >= least8Bit }

// exact says that the moments of a parameter of that size are kept as they are.
func (m moments) exact(size int) bool { return m.dtype != MomentsBFloat16 && !m.quantized(size) }

// read is a moment in float32, of the parameter's shape.
func (m moments) read(state []*Node, shape shapes.Shape, sign signedness) *Node {
	if m.quantized(shape.Size()) {
		return dequantize(state[0], state[1], shape, sign)
	}
	return ConvertDType(state[0], dtypes.Float32)
}

// write is how x, moment i of a change, is kept. Keys of random numbers are made only where they are used: those for
// all parameters would be most of a step's nodes.
func (m moments) write(c Change, i int, x *Node, sign signedness) []*Node {
	switch {
	case m.quantized(x.Shape().Size()):
		codes, absmax := quantize(x, sign)
		return []*Node{codes, absmax}
	case m.dtype == MomentsBFloat16:
		return []*Node{roundByChance(x, c.Key(i))}
	}
	return []*Node{x}
}

// roundByChance rounds float32 to bfloat16, up with the chance of what is cut off: on average nothing is lost. A second
// moment that decays by a thousandth at a step would stand still with rounding to the nearest.
func roundByChance(x, key *Node) *Node {
	noise := BitwiseShiftRightLogicalScalar(random.Bits(key, x.Shape().Dimensions...), 16)
	bits := Add(Bitcast(x, dtypes.Uint32), noise)
	bits = BitwiseAnd(bits, Const(x.Graph(), uint32(0xffff0000)))
	return ConvertDType(Bitcast(bits, dtypes.Float32), dtypes.BFloat16)
}
