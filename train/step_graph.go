package train

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/random"
)

// buildStep makes a step from a batch.
func (s *stepper) buildStep(_ *Graph, state, inputs []*Node) (next, outputs []*Node) {
	n := len(inputs) - 3
	params, draw := state[:len(s.objective.Trainable)], loss.Draws{Seed: inputs[n+1], Step: inputs[n+2]}
	loss := s.loss(params, inputs[:n], draw)
	return s.apply(state, Gradient(loss, params...), loss, inputs[n], draw)
}

// buildGradients adds a batch's share of the gradients and of the loss to the sums, which the first batch begins. Those of the only batch of a step
// are outputs.
func (s *stepper) buildGradients(_ *Graph, sums, inputs []*Node) (next, outputs []*Node) {
	count, n := len(s.objective.Trainable), len(inputs)-3
	params, batch := inputs[:count], inputs[n]
	row := MulScalar(batch, float64(s.objective.Batch[0].Shape.Dim(0)))
	loss := s.loss(params, inputs[count:n], loss.Draws{Seed: inputs[n+1], Step: inputs[n+2], Row: row})
	grads := append(Gradient(loss, params...), loss)
	if s.accumulation == 1 {
		return nil, append(grads, loss)
	}
	first := Equal(batch, ZerosLike(batch))
	for i, x := range grads {
		x = MulScalar(x, 1/float64(s.accumulation))
		next = append(next, Add(Where(first, ZerosLike(sums[i]), sums[i]), x))
	}
	return next, []*Node{loss}
}

// buildApply makes a step from the sums.
func (s *stepper) buildApply(_ *Graph, state, inputs []*Node) (next, outputs []*Node) {
	n := len(inputs) - 3
	return s.apply(state, inputs[:n-1], inputs[n-1], inputs[n], loss.Draws{Seed: inputs[n+1], Step: inputs[n+2]})
}

// bind gives the parameters of a tree their nodes in a graph that b compiles.
func bind(b *xla.Backend, tree nn.Tree, nodes []*Node) nn.Params {
	return nn.Bind(tree, nodes).WithKernels(nn.Kernels{Attention: b.AttentionKernel()})
}

// bindForward is bind where no gradient is asked for.
func bindForward(b *xla.Backend, tree nn.Tree, nodes []*Node) nn.Params {
	return nn.Bind(tree, nodes).WithKernels(nn.Kernels(b.Forward()))
}

// loss builds the loss of a batch. inputs are the frozen parameters and the batch.
func (s *stepper) loss(params, inputs []*Node, draw loss.Draws) *Node {
	o := s.objective
	n := len(o.Frozen)
	trainable, frozen := bind(s.backend, o.Trainable, params), bind(s.backend, o.Frozen, inputs[:n])
	if s.checkpoint {
		trainable, frozen = trainable.WithCheckpointing(params...), frozen.WithCheckpointing(params...)
	}
	return o.Loss(trainable, frozen, inputs[n:], draw)
}

// apply makes a step from gradients and the loss that they belong to. Where one of them is no finite number the state stays as it is. The outputs
// are the loss and the gradients' global norm before clipping.
func (s *stepper) apply(state, grads []*Node, batchLoss, rates *Node, draw loss.Draws) (next, outputs []*Node) {
	n := len(grads)
	rate := make([]*Node, rates.Shape().Size())
	for i := range rate {
		rate[i] = Reshape(Slice(rates, AxisElem(i)))
	}
	grads, norm := s.optimizer.Clip(grads)
	next = make([]*Node, len(state))
	firstSlot := n
	if s.ema {
		firstSlot = 2 * n
	}
	memory := firstSlot
	good := LogicalAnd(IsFinite(batchLoss), IsFinite(norm))
	for i, spec := range s.objective.Trainable {
		end := memory + len(s.method.Slots(spec))
		c := optim.Change{Spec: spec, Param: state[i], Grad: grads[i], State: state[memory:end], Rates: rate[1:], Finite: good, Once: s.backend.Once, Key: func(moment int) *Node {
			return random.Key(draw.Seed, draw.Step, loss.DrawRounding+uint32(2*i+moment))
		}}
		var remembered []*Node
		next[i], remembered = s.method.Update(c)
		copy(next[memory:end], remembered)
		memory = end
		if s.ema {
			// average ← decay·average + (1-decay)·parameter
			next[n+i] = Add(next[i], Mul(rate[0], Sub(state[n+i], next[i])))
		}
	}
	for i := range next[:firstSlot] {
		next[i] = Where(good, next[i], state[i])
	}
	return next, []*Node{batchLoss, norm}
}
