package hlo

import "google.golang.org/protobuf/encoding/protowire"

// Within is a message with change applied to its submessages of one field; those for which change returns nil are left
// out.
func Within(message []byte, at protowire.Number, change func([]byte) []byte) []byte {
	out := make([]byte, 0, len(message))
	EachWhole(message, func(field protowire.Number, _ uint64, bytes, whole []byte) {
		if field != at {
			out = append(out, whole...)
		} else if changed := change(bytes); changed != nil {
			out = protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), changed)
		}
	})
	return out
}

// Each calls visit with every field of a message, numbers as number, all others as bytes.
func Each(message []byte, visit func(field protowire.Number, number uint64, bytes []byte)) {
	EachWhole(message, func(field protowire.Number, number uint64, bytes, _ []byte) { visit(field, number, bytes) })
}

// EachWhole is [Each], with the encoded field as whole.
func EachWhole(message []byte, visit func(field protowire.Number, number uint64, bytes, whole []byte)) {
	for len(message) > 0 {
		field, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return
		}
		var number uint64
		var bytes []byte
		var n int
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message[tag:])
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(message[tag:])
		default:
			n = protowire.ConsumeFieldValue(field, kind, message[tag:])
		}
		if n < 0 {
			return
		}
		visit(field, number, bytes, message[:tag+n])
		message = message[tag+n:]
	}
}

// BytesField is the last of a message's fields with the number want.
func BytesField(message []byte, want protowire.Number) (found []byte) {
	Each(message, func(field protowire.Number, _ uint64, bytes []byte) {
		if field == want {
			found = bytes
		}
	})
	return found
}

// Numbers reads a repeated number, packed or not.
func Numbers(number uint64, packed []byte) (out []int64) {
	if packed == nil {
		return []int64{int64(number)}
	}
	for len(packed) > 0 {
		x, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			break
		}
		out, packed = append(out, int64(x)), packed[n:]
	}
	return out
}
