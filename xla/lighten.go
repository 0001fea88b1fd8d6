package xla

import "google.golang.org/protobuf/encoding/protowire"

// Fields of XLA's messages, from a serialized program of its CPU compiler inwards.
const (
	fieldProgram        protowire.Number = 1 // ExecutableAndOptionsProto, to a CompilationResultProto
	fieldModuleAndMore  protowire.Number = 1 // CompilationResultProto, to a HloModuleProtoWithConfig
	fieldModule         protowire.Number = 1 // HloModuleProtoWithConfig
	fieldComputations   protowire.Number = 3 // HloModuleProto
	fieldInstructions   protowire.Number = 2 // HloComputationProto
	fieldFused          protowire.Number = 7
	fieldOpcode         protowire.Number = 2 // HloInstructionProto
	fieldFusionKind     protowire.Number = 11
	fieldCustomCallName protowire.Number = 28
	fieldCalled         protowire.Number = 38
)

// lighten leaves out of a serialized program of XLA's CPU compiler what is inside of fusions: it was compiled, and running the program needs no more
// of it than the shapes of what goes in and comes out. Four fifths of a training step's instructions are there, and two fifths of the time that loading
// takes are theirs. Each fusion becomes the call of a function that is not in the program. Of a program that has another form than XLA gives it,
// nothing sensible comes out.
func lighten(program []byte) []byte {
	return within(program, fieldProgram, func(b []byte) []byte {
		return within(b, fieldModuleAndMore, func(b []byte) []byte {
			return within(b, fieldModule, func(b []byte) []byte {
				return within(b, fieldComputations, lightenComputation)
			})
		})
	})
}

// lightenComputation changes a HloComputationProto; a fusion's becomes nil.
func lightenComputation(computation []byte) []byte {
	fused := false
	each(computation, func(field protowire.Number, number uint64, _ []byte) {
		fused = fused || field == fieldFused && number != 0
	})
	if fused {
		return nil
	}
	return within(computation, fieldInstructions, func(instruction []byte) []byte {
		if string(bytesField(instruction, fieldOpcode)) != "fusion" {
			return instruction
		}
		light := make([]byte, 0, len(instruction))
		eachWhole(instruction, func(field protowire.Number, _ uint64, _, whole []byte) {
			switch field {
			case fieldOpcode, fieldFusionKind, fieldCalled:
			default:
				light = append(light, whole...)
			}
		})
		light = protowire.AppendString(protowire.AppendTag(light, fieldOpcode, protowire.BytesType), "custom-call")
		return protowire.AppendString(protowire.AppendTag(light, fieldCustomCallName, protowire.BytesType), "fusion")
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
