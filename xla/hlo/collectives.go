package hlo

import (
	"slices"
	"strings"
)

// collect adds the collectives of a computation and of those that it calls. Computations of fusions and of asynchronous
// operations contain collectives too.
func (m *hloModule) collect(id int64, times float64, byKind map[string]float64) {
	c := m.computations[id]
	if c == nil {
		return
	}
	for _, in := range c.instructions {
		if kind := strings.TrimSuffix(in.opcode, "-start"); collectives[kind] {
			if kind == "all-reduce" && c.slices(in.id) {
				kind = "reduce-scatter"
			}
			byKind[kind] += times * c.whole(in)
			continue // the computation it calls only adds numbers
		}
		n := times
		if in.opcode == "while" {
			n *= in.trips
		}
		for _, called := range in.called {
			m.collect(called, n, byKind)
		}
	}
}

// collectives are XLA's names of the collectives.
var collectives = map[string]bool{
	"all-reduce": true, "all-gather": true, "reduce-scatter": true, "all-to-all": true, "ragged-all-to-all": true,
	"collective-permute": true, "collective-broadcast": true,
}

// whole is the larger of a collective's operands and its result, in bytes. A start's result also has the operands, so
// only its largest part counts.
func (c *hloComputation) whole(in *hloInstruction) float64 {
	var operands float64
	for _, id := range in.operands {
		if operand := c.byID[id]; operand != nil {
			operands += operand.shape.size()
		}
	}
	if !strings.HasSuffix(in.opcode, "-start") {
		return max(operands, in.shape.size())
	}
	for _, part := range in.shape.parts {
		operands = max(operands, part.size())
	}
	return operands
}

// size is the number of bytes of a shape, in main memory and on the chip.
func (s hloShape) size() float64 {
	main, onChip := s.places()
	return main + onChip
}

// slices says whether an operation of the computation takes the device's own part of the result of instruction id.
func (c *hloComputation) slices(id int64) bool {
	return slices.ContainsFunc(c.instructions, func(in *hloInstruction) bool {
		return in.opcode == "dynamic-slice" && slices.Contains(in.operands, id)
	})
}
