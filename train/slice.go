package train

import (
	"context"
	"fmt"

	"limner/train/folder"
)

// leads says whether this process writes what the run makes: alone, or as the first of several. The others compute and read.
func (r *Run) leads() bool { return r.Backend.Process().Leads() }

// stopping says whether the run is to stop before the next step, since a process of it was told to. An error of saving is told to all.
func (r *Run) stopping(told context.Context, saves *folder.Background) (bool, error) {
	if err := r.Backend.Together(saves.Poll()); err != nil {
		return false, err
	}
	stop := int32(0)
	if told.Err() != nil {
		stop = 1
	}
	_, any, err := r.Backend.Range(stop)
	return any > 0, err
}

// sameStep fails where the processes go on from other steps, or one had an error.
func (r *Run) sameStep(step int, err error) error {
	if err != nil {
		return err
	}
	least, greatest, err := r.Backend.Range(int32(step))
	if err == nil && least != greatest {
		err = fmt.Errorf("the machines of this run see checkpoints of other steps, %d to %d, in %s: it must be a folder that all of them share", least, greatest, r.Options.OutputDir)
	}
	return err
}
