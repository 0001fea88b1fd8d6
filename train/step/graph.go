package step

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/train/loss"
	"limner/train/optim"
	"limner/xla/program"
	"limner/xla/random"
)

// buildStep makes a step from a batch.
func (s *Step) buildStep(in program.Nodes) (next, outputs program.Nodes) {
	params := s.params(in)
	loss := s.loss(params, in, draws(in))
	return s.apply(in, Gradient(loss, params...), loss)
}

// buildGradients adds a batch's share of the gradients and of the loss to the sums, which the first batch begins. Those
// of the only batch of a step are outputs.
func (s *Step) buildGradients(in program.Nodes) (next, outputs program.Nodes) {
	params, batch, draw := s.params(in), in.Get(inputBatch), draws(in)
	draw.Row = MulScalar(batch, float64(s.objective.Batch[0].Shape.Dim(0)))
	loss := s.loss(params, in, draw)
	sums := program.Nodes{}
	grads := append(Gradient(loss, params...), loss)
	if s.Accumulation == 1 {
		for i, v := range s.sumValues() {
			sums[v.Name] = grads[i]
		}
		sums[outputLoss] = loss
		return nil, sums
	}
	first := Equal(batch, ZerosLike(batch))
	for i, v := range s.sumValues() {
		x, sum := MulScalar(grads[i], 1/float64(s.Accumulation)), in.Get(v.Name)
		sums[v.Name] = Add(Where(first, ZerosLike(sum), sum), x)
	}
	return sums, program.Nodes{outputLoss: loss}
}

// buildApply makes a step from the sums.
func (s *Step) buildApply(in program.Nodes) (next, outputs program.Nodes) {
	return s.apply(in, in.Of(s.objective.Trainable.Under(groupSum)), in.Get(sumOfLosses))
}

// params are the trained parameters in their order.
func (s *Step) params(in program.Nodes) []*Node {
	return in.Of(s.objective.Trainable.Under(groupParam))
}

func draws(in program.Nodes) loss.Draws {
	return loss.Draws{Seed: in.Get(inputSeed), Step: in.Get(inputStep)}
}

// loss builds the loss of a batch. in are the frozen parameters and the batch, among others.
func (s *Step) loss(params []*Node, in program.Nodes, draw loss.Draws) *Node {
	o := s.objective
	trainable, frozen := program.Bind(s.backend, o.Trainable, params),
		program.Bind(s.backend, o.Frozen, in.Of(o.Frozen))
	if s.Checkpointing {
		trainable, frozen = trainable.WithCheckpointing(params...), frozen.WithCheckpointing(params...)
	}
	return o.Loss(trainable, frozen, in, draw)
}

// apply makes a step from gradients and the loss that they belong to. Where one of them is no finite number the state
// stays as it is. The outputs are the loss and the gradients' global norm before clipping.
func (s *Step) apply(in program.Nodes, grads []*Node, batchLoss *Node) (next, outputs program.Nodes) {
	draw, rates := draws(in), in.Get(inputRates)
	rate := make([]*Node, rates.Shape().Size())
	for i := range rate {
		rate[i] = Reshape(Slice(rates, AxisElem(i)))
	}
	grads, norm := s.Optimizer.Clip(grads)
	next = program.Nodes{}
	good := LogicalAnd(IsFinite(batchLoss), IsFinite(norm))
	for i, spec := range s.objective.Trainable {
		param, slots := groupParam+"."+spec.Key, s.method.Slots(spec)
		c := optim.Change{
			Spec: spec, Param: in.Get(param), Grad: grads[i], Rates: rate[1:], Finite: good, Once: s.backend.Once,
			Key: func(moment int) *Node {
				return random.Key(draw.Seed, draw.Step, loss.DrawRounding+uint32(2*i+moment))
			},
		}
		for _, slot := range slots {
			c.State = append(c.State, in.Get(slot.Name+"."+spec.Key))
		}
		changed, remembered := s.method.Update(c)
		next[param] = changed
		for k, slot := range slots {
			next[slot.Name+"."+spec.Key] = remembered[k]
		}
		if s.EMA {
			// average ← decay·average + (1-decay)·parameter
			average := groupEMA + "." + spec.Key
			next[average] = Add(changed, Mul(rate[0], Sub(in.Get(average), changed)))
		}
	}
	for _, v := range s.layout[:s.firstSlot()] {
		next[v.name()] = Where(good, next[v.name()], in.Get(v.name()))
	}
	return next, program.Nodes{outputLoss: batchLoss, outputGradNorm: norm}
}
