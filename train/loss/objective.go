// Package loss provides what a training run minimises: the losses of diffusion models and VAEs as graphs, which of
// their parameters are trained, LoRA matrices and embeddings of new tokens among them.
package loss

import (
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
	"limner/xla/random"
)

// Objective is what a training run minimises.
type Objective struct {
	Name      string
	Trainable nn.Tree      // differentiated, updated and saved
	Frozen    nn.Tree      // only read
	Compute   dtypes.DType // of activations, and of the frozen parameters on the devices: Float32 or BFloat16
	Batch     []xla.Value
	Ahead     *Ahead // makes the first value of Batch; nil: the feed provides it
	// Loss builds the scalar float32 loss of a batch. The nodes of Batch are among those of batch.
	Loss func(trainable, frozen nn.Params, batch program.Nodes, draw Draws) *Node
}

// Ahead is a program of its own that prepares a batch before the step, one row after another on each device: a compiler
// that sees several images chooses worse forms of convolutions (TPU's cuts them into strips), and smaller programs
// compile side by side.
type Ahead struct {
	Input  xla.Value // what the feed gives
	Frozen nn.Tree
	// Build makes a row of the first value of the objective's Batch of one of Input: both with a first axis of 1.
	Build func(frozen nn.Params, in *Node) *Node
}

// FrozenTree lists every parameter that is only read.
func (o Objective) FrozenTree() nn.Tree {
	if o.Ahead == nil {
		return o.Frozen
	}
	return slices.Concat(o.Frozen, o.Ahead.Frozen)
}

// FeedValues describes the arrays of a batch that the feed provides.
func (o Objective) FeedValues() []xla.Value {
	if o.Ahead == nil {
		return o.Batch
	}
	return append([]xla.Value{o.Ahead.Input}, o.Batch[1:]...)
}

// Parameters is the number of parameters of the objective's networks.
func (o Objective) Parameters() int { return o.Trainable.Size() + o.FrozenTree().Size() }

// Draws are the random numbers of a step. Each depends on the run's seed, the step, its purpose and its index alone:
// the index of an image among all those of the step, in however many batches they come.
type Draws struct {
	Seed, Step *Node // uint64 scalars
	Row        *Node // uint32 scalar, index of the batch's first image in the step; nil is 0
	Timesteps  *Node // int32 [batch] of an evaluation; nil draws them
}

// The purposes of draws. The numbers are part of what makes a run repeatable: never change them.
const (
	drawNoise        = 1
	drawTimesteps    = 2
	drawPosterior    = 3
	drawOffset       = 4
	drawPerturbation = 5
	drawDropout      = 6
	DrawRounding     = 1 << 24 // and the numbers after it, two for each parameter
)

// key is the key of the numbers of one purpose.
func (d Draws) key(purpose uint32) *Node {
	key := random.Key(d.Seed, d.Step, purpose)
	if d.Row != nil {
		key = random.Rows(key, d.Row)
	}
	return key
}

// normal draws float32 of the given dimensions with mean 0 and variance 1.
func (d Draws) normal(purpose uint32, dims ...int) *Node {
	return random.Normal(d.key(purpose), shapes.Make(dtypes.Float32, dims...))
}

// posterior draws the normals of the VAE's posterior.
func (d Draws) posterior(dims ...int) *Node { return d.normal(drawPosterior, dims...) }

// below draws int32 [n], uniform in [0, limit).
func (d Draws) below(purpose uint32, limit, n int) *Node {
	return random.Int(d.key(purpose), limit, n)
}

// bits draws uint32 [n].
func (d Draws) bits(purpose uint32, n int) *Node {
	return random.Bits(d.key(purpose), n)
}
