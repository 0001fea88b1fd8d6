package train

import (
	"context"
	"errors"
	"fmt"

	"limner/train/folder"
	"limner/train/step"
)

// goBack returns the run to its last good checkpoint, or its start, after a step that was not finite: once. It goes on
// with the data after that step's. state.NextBatch says where that is.
func (r *Run) goBack(s *step.Step, state *folder.State, saves *folder.Background, o Options, record folder.Record,
	notFinite *step.NotFinite) error {
	// The others read the checkpoint that the first process has then written.
	if err := r.processes().sameStep(saves.Last, o.OutputDir, saves.Wait()); err != nil {
		return errors.Join(notFinite, err)
	}
	if state.WentBackAt != 0 {
		return fmt.Errorf("%w; the run went back once already, from step %d, so it stops: nothing after %s was kept. "+
			"Try a lower --learning_rate, or --mixed_precision no, in another --output_dir",
			notFinite, state.WentBackAt, r.place(saves.Last))
	}
	good, checkpoint, err := r.lastGood(saves.Last, o, record)
	if err := r.processes().agree(err); err != nil {
		return errors.Join(notFinite, err)
	}
	if err := r.processes().agree(s.Begin(context.Background(), r.Weights, saved(checkpoint))); err != nil {
		return errors.Join(notFinite, err)
	}
	r.logf("%v: going back to %s once, and on with other images", notFinite, r.place(good.Step))
	good.NextBatch, good.Epoch = state.NextBatch, state.NextBatch/r.Dataset.StepsPerEpoch()
	good.WentBackAt = notFinite.Step
	*state = good
	return nil
}

// place names the state after step n in messages.
func (r *Run) place(n int) string {
	if n == 0 {
		return "the start of the run"
	}
	return folder.Name(n)
}
