package step

import (
	"fmt"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/dtypes/bfloat16"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/models/safetensors"
	"limner/train/optim"
	"limner/xla"
)

// What the names of a step's arrays begin with: of parameters, their averages, and sums of gradients.
const (
	groupParam = "param"
	groupEMA   = "ema"
	groupSum   = "sum"
)

// stateValue is one array of a run's state: a parameter, an array of its optimizer state, or its average.
type stateValue struct {
	group string  // groupParam, groupEMA, or the name of the optimizer's slot
	spec  nn.Spec // its key is the parameter's
	dtype dtypes.DType
}

// name is the value's key among the host's values and in files.
func (v stateValue) name() string { return v.group + "." + v.spec.Key }

// class is what the value is for, in figures of memory.
func (v stateValue) class() xla.Class {
	switch v.group {
	case groupParam:
		return xla.TrainedParameters
	case groupEMA:
		return xla.Averages
	case groupSum:
		return xla.GradientSums
	}
	return xla.Moments
}

// stateLayout lists the state of a run: the parameters in the tree's order, with an average also those, then the slots
// of each parameter.
func stateLayout(tree nn.Tree, m optim.Method, ema bool) []stateValue {
	var values []stateValue
	add := func(group string) {
		for _, spec := range tree {
			values = append(values, stateValue{group, spec, dtypes.Float32})
		}
	}
	add(groupParam)
	if ema {
		add(groupEMA)
	}
	for _, spec := range tree {
		for _, slot := range m.Slots(spec) {
			kept := nn.Spec{Key: spec.Key, Shape: slot.Shape, Kind: slot.Kind}
			values = append(values, stateValue{slot.Name, kept, slot.DType})
		}
	}
	return values
}

// OptimizerState lists the arrays of a run's optimizer state by their names, and the dtype that all but codes have in
// files: F32, or BF16 where moments have it.
func OptimizerState(o optim.Optimizer, trainable nn.Tree) (tree nn.Tree, dtype string) {
	dtype = "F32"
	if o.Moments == optim.MomentsBFloat16 {
		dtype = "BF16"
	}
	for _, v := range stateLayout(trainable, o.Method(), false)[len(trainable):] {
		v.spec.Key = v.name()
		tree = append(tree, v.spec)
	}
	return tree, dtype
}

// put puts numbers on the devices as a value in its dtype. Codes are whole numbers.
func put(b *xla.Backend, v xla.Value, data []float32) (*xla.Array, error) {
	dtype := nn.FileDType(v.Shape.DType)
	if v.Shape.DType == dtypes.Uint8 {
		dtype = "U8"
	}
	encoded, err := safetensors.Encode(data, dtype)
	if err != nil {
		return nil, err
	}
	return xla.PutBytes(b, encoded, v.Shape, v.Sharding)
}

// getFloats copies an array to the host as float32, which holds the numbers of every dtype here exactly.
func getFloats(a *xla.Array, data []float32) error {
	switch dtype := a.Shape().DType; dtype {
	case dtypes.Float32:
		return xla.GetInto(a, data)
	case dtypes.BFloat16:
		half, err := xla.Get[bfloat16.BFloat16](a)
		for i, v := range half {
			data[i] = v.Float32()
		}
		return err
	case dtypes.Uint8:
		codes, err := xla.Get[uint8](a)
		for i, v := range codes {
			data[i] = float32(v)
		}
		return err
	default:
		return fmt.Errorf("a state of %s: it cannot be saved", dtype)
	}
}

// value describes a state array to a program.
func (v stateValue) value(sharding xla.Sharding) xla.Value {
	return xla.Value{
		Name: v.name(), Shape: shapes.Make(v.dtype, v.spec.Shape...), Sharding: sharding, Class: v.class(),
	}
}
