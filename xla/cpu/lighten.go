package cpu

import (
	"google.golang.org/protobuf/encoding/protowire"

	"limner/xla/hlo"
)

// Fields of XLA's messages, from a serialized program of its CPU compiler inward.
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

// Lighten removes the insides of fusions from a serialized program of XLA's CPU compiler: they are compiled already,
// and running the program needs only the shapes of their operands and results. They are four fifths of a training
// step's instructions and half of the time of loading. Each fusion becomes a call of a function that is not in the
// program. The result is undefined for any other format.
func Lighten(program []byte) []byte {
	return hlo.Within(program, fieldProgram, func(b []byte) []byte {
		return hlo.Within(b, fieldModuleAndMore, func(b []byte) []byte {
			return hlo.Within(b, fieldModule, func(b []byte) []byte {
				return hlo.Within(b, fieldComputations, lightenComputation)
			})
		})
	})
}

// lightenComputation changes a HloComputationProto; a fusion's becomes nil.
func lightenComputation(computation []byte) []byte {
	fused := false
	hlo.Each(computation, func(field protowire.Number, number uint64, _ []byte) {
		fused = fused || field == fieldFused && number != 0
	})
	if fused {
		return nil
	}
	return hlo.Within(computation, fieldInstructions, func(instruction []byte) []byte {
		if string(hlo.BytesField(instruction, fieldOpcode)) != "fusion" {
			return instruction
		}
		light := make([]byte, 0, len(instruction))
		hlo.EachWhole(instruction, func(field protowire.Number, _ uint64, _, whole []byte) {
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
