package hlo_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"limner/xla/hlo"
)

// message is a field's bytes, the way protocol buffers nest.
func message(field protowire.Number, fields ...[]byte) []byte {
	var content []byte
	for _, f := range fields {
		content = append(content, f...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
}

func number(field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), n)
}

func name(s string) []byte { return message(1, []byte(s)) }

// float32s is the shape of a vector in a memory space: 0 is main memory.
func float32s(n, space uint64) []byte {
	return message(3, number(2, 11), number(3, n), message(5, number(8, space)))
}

func computation(label string, id uint64, instructions ...[]byte) []byte {
	return message(3, append([][]byte{name(label), number(5, id)}, instructions...)...)
}

func instruction(label, opcode string, id uint64, rest ...[]byte) []byte {
	return message(2, append([][]byte{name(label), message(2, []byte(opcode)), number(35, id)}, rest...)...)
}

// program reads x three times from main memory: once for y, which stays on the chip, once for z, and a part of it,
// which goes to the chip while others compute. A fusion's inside moves nothing.
func program() []byte {
	part := message(3, number(2, 13), message(4, number(2, 13), tuple(float32s(1000, 0))), tuple(float32s(100, 1)))
	return slices.Concat(
		computation("inside", 1, instruction("a", "add", 1, float32s(1000, 0))),
		computation("cut", 3, instruction("b", "parameter", 5, float32s(1000, 0)),
			instruction("c", "slice", 6, float32s(100, 1), number(36, 5))),
		computation("main", 2,
			instruction("x", "parameter", 2, float32s(1000, 0)),
			instruction("y", "fusion", 3, float32s(1000, 1), number(36, 2), number(38, 1)),
			instruction("z", "add", 4, float32s(1000, 0), number(36, 2), number(36, 3)),
			instruction("start", "async-start", 7, part, number(36, 2), number(38, 3)),
			instruction("done", "async-done", 8, float32s(100, 1), number(36, 7),
				message(7, message(2, []byte("net.conv"))))),
		message(2, []byte("main")))
}

// tuple makes a shape's field into one of a tuple's parts.
func tuple(shape []byte) []byte {
	_, _, n := protowire.ConsumeTag(shape)
	content, _ := protowire.ConsumeBytes(shape[n:])
	return message(4, content)
}

func TestCountTraffic(t *testing.T) {
	traffic, err := hlo.CountTraffic(program())
	if err != nil {
		t.Fatal(err)
	}
	if traffic.Bytes != 12400 || traffic.OnChip != 8400 || traffic.ByKind["add"] != 8000 {
		t.Errorf("got %g bytes of main memory, %g on chip, %v; want 12400, 8400 and 8000 of add",
			traffic.Bytes, traffic.OnChip, traffic.ByKind)
	}
	if traffic.ByLayer["net.conv"] != 400 {
		t.Errorf("got %v, want the 400 bytes that are brought to the chip to count for the layer that they go to",
			traffic.ByLayer)
	}
	part := slices.Concat(
		computation("main", 2,
			instruction("x", "parameter", 2, float32s(1000, 0)), instruction("at", "parameter", 3, float32s(1, 0)),
			instruction("part", "dynamic-slice", 4, float32s(100, 0), number(36, 2), number(36, 3))),
		message(2, []byte("main")))
	if traffic, err := hlo.CountTraffic(part); err != nil || traffic.Bytes != 804 {
		t.Errorf("got %g bytes, %v; want 804: a part of 400 bytes is read and written, and where it begins is read",
			traffic.Bytes, err)
	}
	circle := append(computation("main", 2, instruction("x", "call", 1, number(38, 2))), message(2, []byte("main"))...)
	if _, err := hlo.CountTraffic(circle); err == nil || !strings.Contains(err.Error(), `"main" calls one that does not precede it`) {
		t.Errorf("a computation that calls itself: got %v", err)
	}
	if _, err := hlo.CountTraffic(nil); err == nil || !strings.Contains(err.Error(), "no entry computation") {
		t.Errorf("an empty file: got %v", err)
	}
}

func FuzzCountTraffic(f *testing.F) {
	f.Add(program())
	f.Fuzz(func(t *testing.T, module []byte) {
		if _, err := hlo.CountTraffic(module); err != nil && err.Error() == "" {
			t.Error("an error without a text")
		}
	})
}
