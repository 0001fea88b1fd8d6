package sample

import (
	"fmt"

	"limner/sample/schedule"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// networkInput is what the network is given at a call: x float32 [batch, height, width, channels] scaled, and the
// timesteps float32 [batch]. The coefficients are Schedule.Coefficients.
func networkInput(x, coefficients *Node) (scaled, timesteps *Node) {
	timesteps = BroadcastToDims(coefficient(coefficients, schedule.OffsetTimestep), x.Shape().Dim(0))
	return Mul(x, coefficient(coefficients, schedule.OffsetInputScale)), timesteps
}

// schedulerStep is Schedule.Step as a graph: x, the network's output, each memory and the noise are float32 [batch,
// height, width, channels], and so are the next x and memory. The coefficients are Schedule.Coefficients. Of a
// schedule, the threshold alone changes the program.
func schedulerStep(t schedule.Threshold, x, output *Node, memory []*Node, noise, coefficients *Node) (
	next *Node, nextMemory []*Node) {
	x.AssertRank(4)
	coefficients.AssertDims(schedule.CoefficientCount)
	if len(memory) != schedule.Memories {
		panic(fmt.Sprintf("%d tensors of memory: want %d", len(memory), schedule.Memories))
	}
	x0 := Add(Mul(x, coefficient(coefficients, schedule.OffsetX0)),
		Mul(output, coefficient(coefficients, schedule.OffsetX0+1)))
	if t != (schedule.Threshold{}) {
		s := BroadcastToShape(thresholdOf(t, x0), x0.Shape())
		x0 = Div(Clip(x0, Neg(s), s), s)
	} else {
		limit := BroadcastToShape(coefficient(coefficients, schedule.OffsetClip), x0.Shape())
		x0 = Clip(x0, Neg(limit), limit)
	}
	basis := append([]*Node{x, output, x0}, memory...)
	basis = append(basis, noise)
	forms := make([]*Node, 1+schedule.Memories)
	for f := range forms {
		for i, b := range basis {
			term := Mul(b, coefficient(coefficients, schedule.OffsetForms+f*schedule.FormSize+i))
			if i == 0 {
				forms[f] = term
			} else {
				forms[f] = Add(forms[f], term)
			}
		}
	}
	return forms[0], forms[1:]
}

// coefficient is number i of the vector, a scalar.
func coefficient(coefficients *Node, i int) *Node {
	return Reshape(Slice(coefficients, AxisElem(i)))
}

// thresholdOf is the s of a Threshold for each image of x0 [batch, height, width, channels], as [batch, 1, 1, 1].
func thresholdOf(t schedule.Threshold, x0 *Node) *Node {
	batch, n := x0.Shape().Dim(0), x0.Shape().Size()/x0.Shape().Dim(0)
	magnitudes := Reshape(Abs(x0), batch, n)
	below, weight := t.Quantile(n)
	s := orderStatistic(magnitudes, below) // [batch, 1]
	if weight > 0 {
		s = Add(s, MulScalar(Sub(orderStatistic(magnitudes, below+1), s), weight))
	}
	s = MinScalar(MaxScalar(s, 1), t.Max)
	return Reshape(s, batch, 1, 1, 1)
}

// orderStatistic is the value of index k among the sorted values of each row of x [batch, n], none of which is
// negative, as [batch, 1]. GoMLX cannot sort. But the bits of such floats are ordered as integers are, so the value is
// found bit by bit, from the highest on: a bit is set if at most k of the values are smaller with it.
func orderStatistic(x *Node, k int) *Node {
	bits := Bitcast(x, dtypes.Int32)
	found := Zeros(x.Graph(), bits.Shape())
	found = Slice(found, AxisRange(), AxisElem(0)) // [batch, 1]
	for bit := 30; bit >= 0; bit-- {
		candidate := AddScalar(found, float64(int32(1)<<bit))
		smaller := ReduceAndKeep(ConvertDType(LessThan(bits, candidate), dtypes.Int32), ReduceSum, 1)
		found = Where(LessOrEqual(smaller, Scalar(x.Graph(), dtypes.Int32, k)), candidate, found)
	}
	return Bitcast(found, dtypes.Float32)
}
