// Package train fits networks to a dataset: one compiled step, and the loop around it.
package train

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/xla"
	"limner/xla/patch"
)

// Objective is what a training run minimises.
type Objective struct {
	Name      string
	Trainable nn.Tree      // differentiated, updated and saved
	Frozen    nn.Tree      // only read
	Compute   dtypes.DType // of activations, and of the frozen parameters on the devices: Float32 or BFloat16
	Batch     []xla.Value
	// Loss builds the scalar float32 loss of a batch, given the nodes of Batch in order.
	Loss func(trainable, frozen nn.Params, batch []*Node, draw Draws) *Node
}

// Draws are a step's random numbers. Each follows from the run's seed, the step, its purpose and its index alone: that of
// an image among all those of the step, in however many batches they come.
type Draws struct {
	seed, step *Node // uint64 scalars
	row        *Node // of the step's images, that the batch begins with, a uint32 scalar; nil is 0
	timesteps  *Node // int32 [batch] of an evaluation; nil draws them
}

// The purposes of draws. The numbers are part of what makes a run repeatable: never change them.
const (
	drawNoise        = 1
	drawTimesteps    = 2
	drawPosterior    = 3
	drawOffset       = 4
	drawPerturbation = 5
	drawDropout      = 6
	drawRounding     = 1 << 24 // and the numbers after it, two for each parameter
)

// key is the key of the numbers of one purpose.
func (d Draws) key(purpose uint32) *Node {
	key := patch.Key(d.seed, d.step, purpose)
	if d.row != nil {
		key = patch.Rows(key, d.row)
	}
	return key
}

// normal draws float32 of the given dimensions with mean 0 and variance 1.
func (d Draws) normal(purpose uint32, dims ...int) *Node {
	return patch.RandomNormal(d.key(purpose), shapes.Make(dtypes.Float32, dims...))
}

// below draws int32 [n], uniform in [0, limit).
func (d Draws) below(purpose uint32, limit, n int) *Node {
	return patch.RandomInt(d.key(purpose), limit, n)
}

// bits draws uint32 [n].
func (d Draws) bits(purpose uint32, n int) *Node {
	return patch.RandomBits(d.key(purpose), n)
}
