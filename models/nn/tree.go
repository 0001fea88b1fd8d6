package nn

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
)

// Kind says how a parameter is laid out in a diffusers file compared with memory.
type Kind int

const (
	// Vector is a bias or a norm's scale, the same in both: [channels].
	Vector Kind = iota
	// Dense is a linear layer's weight: [in, out] in memory, [out, in] in a file.
	Dense
	// Kernel is a convolution's weight: [height, width, in, out] in memory, [out, in, height, width] in a file.
	Kernel
	// Table is an embedding, the same in both: [rows, width].
	Table
	// Array has any shape, the same in both: optimizer state.
	Array
	// Codes are whole numbers from 0 to 255 of any shape, the same in both, and a byte each in a file.
	Codes
)

// Init names the distribution that a parameter is drawn from when it is not loaded.
type Init int

const (
	// InitZeros is 0 everywhere: biases, zero convolutions.
	InitZeros Init = iota
	// InitOnes is 1 everywhere: scales of norms.
	InitOnes
	// InitUniform is uniform with variance 1/FanIn (LeCun et al. 1998, Efficient BackProp), which keeps the variance
	// of activations: the weights of linear layers and convolutions. PyTorch's default is a third of that.
	InitUniform
	// InitNormal is normal with mean 0 and standard deviation 0.02: embeddings.
	InitNormal
)

// Spec describes one parameter.
type Spec struct {
	Key   string // diffusers' own, dotted
	Shape []int  // in memory's layout
	Kind  Kind
	Init  Init
	FanIn int // inputs of one output, for InitUniform
}

// Size is the number of elements.
func (s Spec) Size() int {
	n := 1
	for _, d := range s.Shape {
		n *= d
	}
	return n
}

// FileShape is the parameter's shape in a diffusers file.
func (s Spec) FileShape() []int {
	switch s.Kind {
	case Dense:
		return []int{s.Shape[1], s.Shape[0]}
	case Kernel:
		return []int{s.Shape[3], s.Shape[2], s.Shape[0], s.Shape[1]}
	default:
		return s.Shape
	}
}

func (s Spec) String() string { return fmt.Sprintf("%s %v", s.Key, s.Shape) }

// Tree is a network's parameters in the order in which its graph first uses them. Keys are unique.
type Tree []Spec

// Size is the number of elements in all parameters.
func (t Tree) Size() int {
	n := 0
	for _, s := range t {
		n += s.Size()
	}
	return n
}

// Values holds one float32 slice for each key of a tree, in memory's layout, row-major.
type Values map[string][]float32

// Source gives the values of parameters one at a time, so that they need not be in memory together.
type Source interface {
	// Stream calls visit once with each parameter of the tree, in any order. Visit's write gives its elements in
	// memory's layout, row-major, little-endian, as dtype: F32, F16 or BF16, rounded to nearest even. Stream fails if a
	// parameter is missing or misshapen, and with the first error of visit.
	Stream(tree Tree, dtype string, visit Visit) error
}

// Visit is called with a parameter. Until it returns, write copies the elements into to, which must have their size. to
// may be their final place, such as a device's memory, so that they are copied only once.
type Visit func(spec Spec, write func(to []byte) error) error

// Until is source that fails with ctx's error before the next parameter once ctx is done.
func Until(ctx context.Context, source Source) Source { return until{ctx, source} }

type until struct {
	ctx  context.Context
	from Source
}

// Stream implements Source.
func (u until) Stream(tree Tree, dtype string, visit Visit) error {
	return u.from.Stream(tree, dtype, func(spec Spec, write func(to []byte) error) error {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		return visit(spec, write)
	})
}

// FileDType is how safetensors and Source spell a compute dtype.
func FileDType(dtype dtypes.DType) string {
	switch dtype {
	case dtypes.BFloat16:
		return "BF16"
	case dtypes.Float16:
		return "F16"
	}
	return "F32"
}

// Under returns the tree with every key below name: the place of one network among several.
func (t Tree) Under(name string) Tree {
	out := make(Tree, len(t))
	for i, s := range t {
		s.Key = name + "." + s.Key
		out[i] = s
	}
	return out
}

// Under returns the values with every key below name.
func (v Values) Under(name string) Values {
	out := make(Values, len(v))
	for key, data := range v {
		out[name+"."+key] = data
	}
	return out
}

// Within returns the values below name, under the keys they have there.
func (v Values) Within(name string) Values {
	out := make(Values)
	for key, data := range v {
		if rest, ok := strings.CutPrefix(key, name+"."); ok {
			out[rest] = data
		}
	}
	return out
}

// Merge puts the values of several networks together. Keys must not repeat.
func Merge(parts ...Values) Values {
	out := make(Values)
	for _, part := range parts {
		maps.Copy(out, part)
	}
	return out
}

// Within returns the part of the tree below name, under the keys it has there.
func (t Tree) Within(name string) Tree {
	var out Tree
	for _, s := range t {
		if rest, ok := strings.CutPrefix(s.Key, name+"."); ok {
			s.Key = rest
			out = append(out, s)
		}
	}
	return out
}
