package hlo

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Traffic is what a compiled program moves between a device's main memory and its units in one run, counted from the
// optimised program: the operands and results of each operation that are not in on-chip memory; of a slice's operand
// only the part that it reads. A compiler's cost analysis counts on-chip memory too.
type Traffic struct {
	Bytes  float64
	OnChip float64            // what would also be traffic of main memory without on-chip memory
	ByKind map[string]float64 // of Bytes, by the operation

	// ByLayer is Bytes by the layer of a network: the path of the parameters that were used last before an operation;
	// "" for operations before the first.
	ByLayer map[string]float64

	// Collectives is what moves between devices, in bytes by the kind of operation: the full arrays that are summed,
	// gathered or exchanged, as one device sees them. A full array is what a device has before a sum is divided, or
	// after parts are gathered.
	Collectives map[string]float64
}

// CountTraffic counts the traffic of an optimised program, whoever compiled it: a serialized HloModuleProto.
func CountTraffic(module []byte) (Traffic, error) {
	m, err := parseHLO(module)
	if err != nil {
		return Traffic{}, err
	}
	t := Traffic{ByKind: map[string]float64{}, ByLayer: map[string]float64{}, Collectives: map[string]float64{}}
	m.count(m.entry, 1, &t)
	m.collect(m.entry, 1, t.Collectives)
	return t, nil
}

// hloModule is what is read from an HloModuleProto.
type hloModule struct {
	computations map[int64]*hloComputation
	entry        int64
}

type hloComputation struct {
	id           int64
	name         string
	instructions []*hloInstruction
	byID         map[int64]*hloInstruction
	user         map[int64]*hloInstruction // the first that reads a result
}

type hloInstruction struct {
	id       int64
	opcode   string
	operands []int64
	called   []int64
	trips    float64 // of a while with a known number of trips
	shape    hloShape
	layer    string // which Named put there
}

// hloShape is an array's or a tuple's.
type hloShape struct {
	bytes  float64 // of an array
	onChip bool
	parts  []hloShape
}

// places is how many bytes are in main memory, and how many on the chip.
func (s hloShape) places() (main, onChip float64) {
	for _, part := range s.parts {
		m, c := part.places()
		main, onChip = main+m, onChip+c
	}
	if s.onChip {
		return main, onChip + s.bytes
	}
	return main + s.bytes, onChip
}

// free are the operations that move no bytes themselves.
var free = map[string]bool{
	"parameter": true, "constant": true, "tuple": true, "get-tuple-element": true, "bitcast": true,
	"after-all": true, "partition-id": true, "copy-done": true, "all-reduce-done": true, "all-gather-done": true,
	"async-done": true, "async-update": true, "slice-done": true, "collective-permute-done": true, "opt-barrier": true,
}

// count adds what a computation moves.
func (m *hloModule) count(id int64, times float64, t *Traffic) {
	c := m.computations[id]
	if c == nil {
		return
	}
	for _, in := range c.instructions {
		switch in.opcode {
		case "while":
			for _, called := range in.called {
				m.count(called, times*in.trips, t)
			}
			continue
		case "conditional", "call":
			for _, called := range in.called {
				m.count(called, times, t)
			}
			continue
		}
		if free[in.opcode] {
			continue
		}
		// A start's shape has parts: the destination and the source.
		written := in.shape
		switch {
		case in.opcode == "copy-start" && len(written.parts) > 0:
			written = written.parts[0]
		case in.opcode == "async-start" && len(written.parts) > 1:
			written = written.parts[1]
		}
		main, onChip := written.places()
		for _, operand := range in.operands {
			source := c.byID[operand]
			if source == nil {
				continue
			}
			read := source.shape
			if m.slices(in) {
				read.bytes = min(read.bytes, written.bytes)
			}
			a, b := read.places()
			main, onChip = main+a, onChip+b
		}
		t.Bytes += times * main
		t.OnChip += times * onChip
		t.ByKind[in.opcode] += times * main
		t.ByLayer[c.layer(in)] += times * main
	}
}

// layer is the operation's layer, or that of its first user: operations that the compiler adds to bring parameters to
// the chip have none of their own.
func (c *hloComputation) layer(in *hloInstruction) string {
	for in != nil && in.layer == "" {
		in = c.user[in.id]
	}
	if in == nil {
		return ""
	}
	return in.layer
}

// slices says whether an operation reads no more of its operand than it writes.
func (m *hloModule) slices(in *hloInstruction) bool {
	opcode := in.opcode
	if opcode == "async-start" && len(in.called) == 1 {
		if called := m.computations[in.called[0]]; called != nil && len(called.instructions) > 0 {
			opcode = called.instructions[len(called.instructions)-1].opcode
		}
	}
	return opcode == "slice" || opcode == "dynamic-slice"
}

func parseHLO(module []byte) (*hloModule, error) {
	m := &hloModule{computations: map[int64]*hloComputation{}}
	entry, unordered := "", ""
	Each(module, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case 2:
			entry = string(bytes)
		case 3:
			c := parseComputation(bytes)
			for _, in := range c.instructions {
				for _, called := range in.called {
					if m.computations[called] == nil {
						unordered = c.name
					}
				}
			}
			m.computations[c.id] = c
		case 6:
			m.entry = int64(number)
		}
	})
	if unordered != "" { // XLA writes callees first, which also rules out cycles
		return nil, fmt.Errorf("computation %q calls one that does not precede it", unordered)
	}
	if m.computations[m.entry] == nil {
		for id, c := range m.computations {
			if c.name == entry {
				m.entry = id
			}
		}
	}
	if m.computations[m.entry] == nil {
		return nil, fmt.Errorf("no entry computation %q among %d", entry, len(m.computations))
	}
	return m, nil
}

func parseComputation(message []byte) *hloComputation {
	c := &hloComputation{byID: map[int64]*hloInstruction{}, user: map[int64]*hloInstruction{}}
	Each(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case 1:
			c.name = string(bytes)
		case 2:
			in := parseInstruction(bytes)
			c.instructions = append(c.instructions, in)
			c.byID[in.id] = in
			for _, operand := range in.operands {
				if c.user[operand] == nil && c.byID[operand] != nil {
					c.user[operand] = in
				}
			}
		case 5:
			c.id = int64(number)
		}
	})
	return c
}

func parseInstruction(message []byte) *hloInstruction {
	in := &hloInstruction{trips: 1}
	Each(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case 2:
			in.opcode = string(bytes)
		case 3:
			in.shape = parseShape(bytes)
		case 7:
			in.layer = string(BytesField(bytes, 2))
		case 35:
			in.id = int64(number)
		case 36:
			in.operands = append(in.operands, Numbers(number, bytes)...)
		case 38:
			in.called = append(in.called, Numbers(number, bytes)...)
		}
	})
	return in
}

// widths are the bytes of an element, by XLA's PrimitiveType.
var widths = map[uint64]float64{
	1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: 2, 11: 4, 12: 8, 15: 8, 16: 2, 18: 16,
}

func parseShape(message []byte) (s hloShape) {
	elements, width := 1.0, 0.0
	Each(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case 2:
			width = widths[number]
		case 3:
			for _, d := range Numbers(number, bytes) {
				elements *= float64(d)
			}
		case 4:
			s.parts = append(s.parts, parseShape(bytes))
		case 5:
			Each(bytes, func(field protowire.Number, number uint64, _ []byte) {
				s.onChip = s.onChip || field == 8 && number != 0
			})
		}
	})
	s.bytes = elements * width
	return s
}
