package train

import (
	"fmt"

	"limner/internal/disk"
	"limner/models/nn"
)

// headerBytes is about what a tensor takes in the header of a file.
const headerBytes = 200

// checkpointBytes is the size of a checkpoint: float32 parameters, with an average twice, and what the optimizer remembers.
func checkpointBytes(tree nn.Tree, memory optimizerFile, ema bool) int64 {
	parameters := 4*int64(tree.Size()) + headerBytes*int64(len(tree))
	if ema {
		parameters *= 2
	}
	return parameters + memory.bytes()
}

// checkSpace fails if the disk cannot hold the checkpoints that the run will keep at once, and one more while it is being
// written. present is how many there are.
func checkSpace(o Options, tree nn.Tree, step, steps, present int) error {
	// Every so many steps, and after the last.
	saves := (steps+o.CheckpointingSteps-1)/o.CheckpointingSteps - step/o.CheckpointingSteps
	most := saves
	if o.CheckpointsTotalLimit > 0 {
		// The old ones go when the new one is whole.
		most = min(saves, max(1, o.CheckpointsTotalLimit+1-present))
	}
	if saves <= 0 {
		return nil
	}
	size := checkpointBytes(tree, newOptimizerFile(o.Optimizer, tree), o.EMA != nil)
	need := float64(most)*float64(size) + 4*float64(tree.Size()) // and the result
	free, err := disk.Free(disk.Existing(o.OutputDir))
	if err != nil || float64(free) >= need {
		return nil // unknown: the saves will tell
	}
	advice := "give an --output_dir on another disk, or make space"
	if o.CheckpointsTotalLimit == 0 && most > 2 {
		advice = "give --checkpoints_total_limit, more --checkpointing_steps, or an --output_dir on another disk"
	}
	return ConfigError{fmt.Errorf("not enough disk space in %s: %d checkpoints of %s and the result need %s, %s are free: %s",
		o.OutputDir, most, inUnits(size), inUnits(int64(min(need, 1e18))), inUnits(free), advice)}
}

func inUnits(bytes int64) string {
	switch {
	case bytes < 1e6:
		return fmt.Sprintf("%d kB", bytes/1e3)
	case bytes < 1e8:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}
