package folder

import (
	"limner/internal/disk"
	"limner/internal/refusal"
	"limner/internal/units"
)

// CheckSpace fails if the disk cannot hold the checkpoints that a run of so many steps, which goes on after a step,
// will keep at once beside those that are there, and one more while it is being written.
func (o Output) CheckSpace(c Contents, step, steps int) error {
	names, err := Checkpoints(o.Dir)
	if err != nil {
		return err
	}
	return o.checkSpace(c, step, steps, len(names))
}

// checkSpace is CheckSpace where so many checkpoints are present.
func (o Output) checkSpace(c Contents, step, steps, present int) error {
	// Every so many steps, and after the last.
	saves := (steps+o.Every-1)/o.Every - step/o.Every
	most := saves
	if o.Keep > 0 {
		// The old ones go when the new one is whole.
		most = min(saves, max(1, o.Keep+1-present))
	}
	if saves <= 0 {
		return nil
	}
	size := c.bytes()
	need := float64(most)*float64(size) + 4*float64(c.Trainable.Size()) // and the result
	free, err := disk.Free(disk.Existing(o.Dir))
	if err != nil || float64(free) >= need {
		return nil // unknown: the saves will tell
	}
	advice := "give an --output_dir on another disk, or make space"
	if o.Keep == 0 && most > 2 {
		advice = "give --checkpoints_total_limit, more --checkpointing_steps, or an --output_dir on another disk"
	}
	return refusal.Errorf("not enough disk space in %s: %d checkpoints of %s and the result need %s, %s are free: %s",
		o.Dir, most, units.Bytes(size), units.Bytes(int64(min(need, 1e18))), units.Bytes(free), advice)
}
