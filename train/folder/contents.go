package folder

import "limner/models/nn"

// Contents are what the checkpoints of a run hold.
type Contents struct {
	Trainable  nn.Tree // of all components
	Components []Component
	EMA        bool // averages beside the parameters
	Optimizer  OptimizerState
}

// OptimizerState describes optimizer.safetensors, which holds the optimizer state of a run.
type OptimizerState struct {
	Tree  nn.Tree // its keys are "slot.component.key"
	DType string  // of all but codes: F32, or BF16 where moments have it
}

// headerBytes is about what a tensor takes in the header of a file.
const headerBytes = 200

// bytes is the size of a checkpoint: float32 parameters, with an average twice, and the optimizer state.
func (c Contents) bytes() int64 {
	parameters := 4*int64(c.Trainable.Size()) + headerBytes*int64(len(c.Trainable))
	if c.EMA {
		parameters *= 2
	}
	return parameters + c.Optimizer.bytes()
}

// bytes is the size of the file.
func (o OptimizerState) bytes() (total int64) {
	for _, spec := range o.Tree {
		width := int64(4)
		if spec.Kind == nn.Codes {
			width = 1
		} else if o.DType == "BF16" {
			width = 2
		}
		total += width*int64(spec.Size()) + headerBytes
	}
	return total
}
