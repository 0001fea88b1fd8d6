package train

import (
	"limner/train/folder"
	"limner/train/step"
	"limner/train/watch"
)

// shown is what is shown of the run.
func (r *Run) shown(s *step.Step, o Options) (watch.Run, error) {
	flops, err := s.FLOPs()
	return watch.Run{
		Options: r.Recipe.Watch, Name: r.Objective.Name, Model: r.Recipe.Model,
		OutputDir: o.OutputDir, RecipeFile: folder.TextName, RecordFile: folder.RunName,
		Steps: o.MaxTrainSteps, Batch: o.Batch, Images: o.images(), Devices: r.Backend.Devices(),
		Parameters: r.Objective.Trainable.Size(), Rows: r.Dataset.Len(),
		CompileTime: s.CompileTime(), Loaded: s.Loaded(), FLOPs: flops, Writes: r.processes().leads(), Logf: r.logf,
	}, err
}

// networks are what validation is of.
func (r *Run) networks(s *step.Step, o Options) watch.Networks {
	return watch.Networks{
		Backend: r.Backend, Objective: r.Objective, Step: s, Batch: o.Batch, Seed: o.Seed,
		Resolution: r.Recipe.Resolution, Background: r.Recipe.Background, Drawing: r.Drawing, Held: r.Held,
		NewControlNet: r.Recipe.NeedConditioning && r.Recipe.ControlNet == "",
		Log:           r.Log, Announce: r.announce,
	}
}
