package xla

import "google.golang.org/protobuf/encoding/protowire"

// Fields of XLA's messages, from a serialized program of its CPU compiler inwards.
const (
	fieldProgram        protowire.Number = 1 // ExecutableAndOptionsProto, to a CompilationResultProto
	fieldModuleAndMore  protowire.Number = 1 // CompilationResultProto, to a HloModuleProtoWithConfig
	fieldModule         protowire.Number = 1 // HloModuleProtoWithConfig
	fieldComputations   protowire.Number = 3 // HloModuleProto
	fieldInstructions   protowire.Number = 2 // HloComputationProto
	fieldRoot           protowire.Number = 6
	fieldFused          protowire.Number = 7
	fieldName           protowire.Number = 1 // HloInstructionProto
	fieldOpcode         protowire.Number = 2
	fieldShape          protowire.Number = 3
	fieldCustomCallName protowire.Number = 28
	fieldID             protowire.Number = 35
)

// lighten leaves out of a serialized program of XLA's CPU compiler what is inside of fusions: it was compiled, and running the program needs no more
// of it than the shapes of what goes in and comes out. Half of a training step's instructions are there, and a third of the time that loading takes is
// theirs. One instruction is left in the place of each fusion's, with the result's shape. Of a program that has another form than XLA gives it, nothing
// sensible comes out.
func lighten(program []byte) []byte {
	return within(program, fieldProgram, func(b []byte) []byte {
		return within(b, fieldModuleAndMore, func(b []byte) []byte {
			return within(b, fieldModule, func(b []byte) []byte {
				return within(b, fieldComputations, lightenComputation)
			})
		})
	})
}

// lightenComputation changes a HloComputationProto, if it is a fusion's.
func lightenComputation(computation []byte) []byte {
	var root, fused uint64
	each(computation, func(field protowire.Number, number uint64, _ []byte) {
		switch field {
		case fieldRoot:
			root = number
		case fieldFused:
			fused = number
		}
	})
	if fused == 0 {
		return computation
	}
	return within(computation, fieldInstructions, func(instruction []byte) []byte {
		var id uint64
		var opcode string
		var light []byte
		eachWhole(instruction, func(field protowire.Number, number uint64, bytes, whole []byte) {
			switch field {
			case fieldOpcode:
				opcode = string(bytes)
			case fieldID:
				id = number
				light = append(light, whole...)
			case fieldName, fieldShape:
				light = append(light, whole...)
			}
		})
		if opcode == "parameter" {
			return instruction
		}
		if id != root {
			return nil
		}
		light = protowire.AppendString(protowire.AppendTag(light, fieldOpcode, protowire.BytesType), "custom-call")
		return protowire.AppendString(protowire.AppendTag(light, fieldCustomCallName, protowire.BytesType), "fused")
	})
}

// within is a message with what change makes of its messages of one field, without those that it makes nil of.
func within(message []byte, at protowire.Number, change func([]byte) []byte) []byte {
	out := make([]byte, 0, len(message))
	eachWhole(message, func(field protowire.Number, _ uint64, bytes, whole []byte) {
		if field != at {
			out = append(out, whole...)
		} else if changed := change(bytes); changed != nil {
			out = protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), changed)
		}
	})
	return out
}

// each calls visit with every field of a message. Fields that are numbers come as number.
func each(message []byte, visit func(field protowire.Number, number uint64, bytes []byte)) {
	eachWhole(message, func(field protowire.Number, number uint64, bytes, _ []byte) { visit(field, number, bytes) })
}

// eachWhole is each, with the field as it stands in the message.
func eachWhole(message []byte, visit func(field protowire.Number, number uint64, bytes, whole []byte)) {
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
