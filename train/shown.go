package train

import (
	"limner/data"
	"limner/data/imaging"
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

// seen are the rows of a batch as training has them.
func (r *Run) seen(batch *data.Batch) []watch.Row {
	rows, side := make([]watch.Row, len(batch.Rows)), r.Recipe.Resolution
	var captions []string
	if r.Captions != nil {
		captions = r.Captions(batch)
	}
	for i := range rows {
		rows[i] = watch.Row{
			Image:     picture(batch.Pixels, i, side, 3, -1),
			Condition: picture(batch.Conditioning, i, side, 3, 0), Mask: picture(batch.Masks, i, side, 1, 0),
		}
		if captions != nil {
			rows[i].Caption = captions[i]
		}
	}
	return rows
}

// picture is image i of a batch's [rows, side, side, channels] from low to 1; nil where the batch has none.
func picture(values []float32, i, side, channels int, low float32) *imaging.RGB {
	if values == nil {
		return nil
	}
	m, size := imaging.NewRGB(side, side), side*side*channels
	values = values[i*size : (i+1)*size]
	for p := range m.Pix {
		m.Pix[p] = uint8((values[p*channels/3]-low)/(1-low)*255 + 0.5)
	}
	return m
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
