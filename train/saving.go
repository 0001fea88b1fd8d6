package train

import (
	"time"

	"limner/models/nn"
	"limner/train/folder"
	"limner/train/step"
)

// contents are what the checkpoints hold of a run that trains the components of a tree.
func (o Options) contents(trainable nn.Tree, components []folder.Component) folder.Contents {
	c := folder.Contents{Trainable: trainable, Components: components, EMA: o.EMA != nil}
	c.Optimizer.Tree, c.Optimizer.DType = step.OptimizerState(o.Optimizer, trainable)
	return c
}

// saved is a checkpoint as the step goes on from it; nil: from the starting values.
func saved(checkpoint *folder.Checkpoint) step.Saved {
	if checkpoint == nil {
		return nil
	}
	return checkpoint
}

// mark makes the output folder this run's, if there is room for what is left of it after a step.
func (r *Run) mark(o Options, record folder.Record, after int) error {
	return r.processes().lead(func() error {
		if err := o.output().CheckSpace(o.contents(r.Objective.Trainable, r.Components), after,
			o.MaxTrainSteps); err != nil {
			return err
		}
		return o.output().Mark(record, r.Recipe.Text)
	})
}

// background saves into the output folder. Beside a process that leads it takes part in the snapshots alone.
func (r *Run) background(o Options, record folder.Record) *folder.Background {
	b := &folder.Background{
		Logf: r.logf, Agree: r.processes().agree, Save: func(nn.Values, folder.State) error { return nil },
	}
	if r.processes().leads() {
		saver := folder.NewSaver(o.output(), o.contents(r.Objective.Trainable, r.Components), record)
		b.Pauses, b.Save = r.pauses(), saver.Save
	}
	return b
}

// pauses are those between the tries of a save.
func (r *Run) pauses() []time.Duration {
	if r.savePauses != nil {
		return r.savePauses
	}
	return folder.SavePauses
}
