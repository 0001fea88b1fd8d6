package train

import (
	"fmt"
	"os"
	"path/filepath"

	"limner/internal/plaintext"
	"limner/train/folder"
)

// begin finds out what the run is made of, and where it goes on.
func (r *Run) begin(o Options) (made record, state folder.State, from *folder.Checkpoint, err error) {
	if made, err = r.record(o); err == nil {
		state, from, err = r.resume(o, made)
	}
	return made, state, from, err
}

// resume looks for the checkpoint to go on from. Damaged ones are named and the one before is used.
func (r *Run) resume(o Options, made record) (folder.State, *folder.Checkpoint, error) {
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
		state, from, err := r.restore(dir, o, made)
		if err != nil {
			return state, nil, fmt.Errorf("resume from %s: %w", dir, err)
		}
		r.logf("going on from %s", dir)
		return state, from, nil
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
func (r *Run) restore(dir string, o Options, made record) (folder.State, *folder.Checkpoint, error) {
	raw, err := os.ReadFile(filepath.Join(dir, folder.RecordName))
	if err != nil {
		return folder.State{}, nil, err
	}
	notes, err := compare(raw, made)
	if err != nil {
		return folder.State{}, nil, err
	}
	for _, note := range notes {
		r.logf("%s", note)
	}
	var was record
	if err := plaintext.JSON(raw, &was); err != nil {
		return folder.State{}, nil, fmt.Errorf("%s: %w", folder.RecordName, err)
	}
	r.byNeed = was.ByNeed
	from, state, err := folder.Open(dir, o.contents(r.Objective.Trainable, r.Components))
	return state, from, err
}

// lastGood is the state of the checkpoint of that step, or the one at the start of the run, of which nothing is saved.
func (r *Run) lastGood(step int, o Options, made record) (folder.State, *folder.Checkpoint, error) {
	if step == 0 {
		return folder.State{Seed: o.Seed}, nil, nil
	}
	dir := filepath.Join(o.OutputDir, folder.Name(step))
	if err := folder.Verify(dir); err != nil {
		return folder.State{}, nil, fmt.Errorf("go back to %s: %w", dir, err)
	}
	return r.restore(dir, o, made)
}
