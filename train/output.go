package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"limner/models/checkpoint"
)

// runName is the file that marks an output folder as a run's: its options.
const runName = "run.json"

// prepareOutput makes the output folder, or checks that the one there is this run's to go on with.
func prepareOutput(o Options) error {
	entries, err := os.ReadDir(o.OutputDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(o.OutputDir, 0o755); err != nil {
			return fmt.Errorf("make output folder: %w", err)
		}
	case err != nil:
		return fmt.Errorf("output folder: %w", err)
	}
	ours := false
	var others []string
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == runName:
			ours = true
		case strings.HasPrefix(name, ".writing-"): // left behind by a run that was killed
			if err := os.RemoveAll(filepath.Join(o.OutputDir, name)); err != nil {
				return fmt.Errorf("output folder: %w", err)
			}
		default:
			others = append(others, name)
		}
	}
	switch {
	case ours && o.ResumeFromCheckpoint == "":
		return fmt.Errorf("output folder %s holds a run already: give --resume_from_checkpoint latest to go on with it, or another --output_dir", o.OutputDir)
	case !ours && len(others) > 0:
		return fmt.Errorf("output folder %s holds something else (%s): give another --output_dir", o.OutputDir, others[0])
	}
	return checkpoint.WriteJSON(filepath.Join(o.OutputDir, runName), o)
}
