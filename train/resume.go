package train

import (
	"fmt"
	"maps"
	"path/filepath"

	"limner/models/diffusers"
	"limner/train/folder"
)

// record resolves what the run is made of, wherever its folder and its model are and however often it was stopped.
// o.Schedule.Steps is set.
func (r *Run) record(o Options) (folder.Record, error) {
	o.OutputDir, o.ResumeFromCheckpoint = "", ""
	recipe := r.Recipe
	recipe.ModelOptions = diffusers.ModelOptions{Model: recipe.Model}
	dataset, err := r.Dataset.Fingerprint()
	if err != nil {
		return folder.Record{}, err
	}
	content, err := r.Dataset.Content()
	if err != nil {
		return folder.Record{}, err
	}
	frozen, err := fingerprint(r.Objective.FrozenTree(), r.Weights)
	if err != nil {
		return folder.Record{}, err
	}
	networks := map[string]any{}
	maps.Copy(networks, r.Networks)
	for _, c := range r.Components {
		networks[c.Name] = c.Config
	}
	record := folder.Record{
		Options: o, Recipe: recipe, Networks: networks, Objective: r.Objective.Name, UseEMA: o.EMA != nil,
		Rows: r.Dataset.Len(), Dataset: dataset, Content: content.Sum, Stamps: content.Stamps, Frozen: frozen,
		Devices: r.Backend.Devices(), PerDevice: o.Batch / r.Backend.Devices(),
		Plugin: filepath.Base(r.Backend.Plugin()),
	}
	if o.Schedule.DependsOnSteps() {
		record.LRScheduler = o.Schedule.Name
	}
	return record, nil
}

// begunWith reads a setting, by its flag's name, in the record of the checkpoint that the run goes on from, into what
// value points to. ok says whether there is one.
func (o Options) begunWith(name string, value any) (ok bool, err error) {
	names := []string{o.output().Resumed()}
	switch names[0] {
	case "":
		return false, nil
	case "latest":
		if names, err = folder.Checkpoints(o.OutputDir); err != nil {
			return false, err
		}
	}
	for _, checkpoint := range names {
		if folder.Setting(filepath.Join(o.OutputDir, checkpoint), name, value) == nil {
			return true, nil
		} // else it is damaged, which resume says
	}
	return false, nil
}

// SeedBegunWith is the seed of the run that the options go on with; ok says whether there is one.
func (o Options) SeedBegunWith() (seed uint64, ok bool, err error) {
	ok, err = o.begunWith("seed", &seed)
	return seed, ok, err
}

// begin finds out what the run is made of, and where it goes on.
func (r *Run) begin(o Options) (record folder.Record, state folder.State, checkpoint *folder.Checkpoint, err error) {
	if record, err = r.record(o); err == nil {
		state, checkpoint, err = r.resume(o, record)
	}
	return record, state, checkpoint, err
}

// resume looks for the checkpoint to go on from. Damaged ones are named and the one before is used.
func (r *Run) resume(o Options, record folder.Record) (folder.State, *folder.Checkpoint, error) {
	state := folder.State{Seed: o.Seed}
	if o.ResumeFromCheckpoint == "" {
		return state, nil, nil
	}
	names := []string{o.output().Resumed()}
	latest := o.ResumeFromCheckpoint == "latest"
	if latest {
		var err error
		if names, err = folder.Checkpoints(o.OutputDir); err != nil {
			return state, nil, err
		}
	}
	for _, name := range names {
		dir := filepath.Join(o.OutputDir, name)
		if err := folder.Verify(dir); err != nil && latest {
			r.logf("checkpoint %s is damaged and passed over: %v", dir, err)
			continue
		} else if err != nil {
			return state, nil, fmt.Errorf("resume from %s: %w", dir, err)
		}
		state, checkpoint, err := r.restore(dir, o, record)
		if err != nil {
			return state, nil, fmt.Errorf("resume from %s: %w", dir, err)
		}
		r.logf("going on from %s", dir)
		return state, checkpoint, nil
	}
	if len(names) > 0 {
		return state, nil,
			fmt.Errorf("every checkpoint in %s is damaged: bring one back from a copy, "+
				"or start anew with another --output_dir", o.OutputDir)
	}
	r.logf("no checkpoint to go on from: starting at step 0")
	return state, nil, nil
}

// restore opens a verified checkpoint, after comparing what it and the run are made of.
func (r *Run) restore(dir string, o Options, record folder.Record) (folder.State, *folder.Checkpoint, error) {
	was, notes, err := folder.Compare(dir, record)
	if err != nil {
		return folder.State{}, nil, err
	}
	for _, note := range notes {
		r.logf("%s", note)
	}
	r.byNeed = was.ByNeed
	checkpoint, state, err := folder.Open(dir, o.contents(r.Objective.Trainable, r.Components))
	return state, checkpoint, err
}

// lastGood is the state of the checkpoint of that step, or the one at the start of the run, of which nothing is saved.
func (r *Run) lastGood(step int, o Options, record folder.Record) (folder.State, *folder.Checkpoint, error) {
	if step == 0 {
		return folder.State{Seed: o.Seed}, nil, nil
	}
	dir := filepath.Join(o.OutputDir, folder.Name(step))
	if err := folder.Verify(dir); err != nil {
		return folder.State{}, nil, fmt.Errorf("go back to %s: %w", dir, err)
	}
	return r.restore(dir, o, record)
}
