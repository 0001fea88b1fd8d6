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

// asidePrefix begins the names of folders that are being written.
const asidePrefix = ".writing-"

// checkOutput refuses an output folder that is not empty and not this run's to go on with.
func checkOutput(o Options) error {
	entries, err := os.ReadDir(o.OutputDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output folder: %w", err)
	}
	ours := false
	var others []string
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == runName:
			ours = true
		case !strings.HasPrefix(name, asidePrefix):
			others = append(others, name)
		}
	}
	switch {
	case ours && o.ResumeFromCheckpoint == "":
		return fmt.Errorf("output folder %s holds a run already: give --resume_from_checkpoint latest to go on with it, or another --output_dir", o.OutputDir)
	case !ours && len(others) > 0:
		return fmt.Errorf("output folder %s holds something else (%s): give another --output_dir", o.OutputDir, others[0])
	}
	return nil
}

// prepareOutput makes the output folder, clears it of what a run that was killed was writing, and marks it as the run's.
func prepareOutput(o Options) error {
	if err := checkOutput(o); err != nil {
		return err
	}
	if err := os.MkdirAll(o.OutputDir, 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(o.OutputDir, asidePrefix+"*"))
	if err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("output folder: %w", err)
		}
	}
	return checkpoint.WriteJSON(filepath.Join(o.OutputDir, runName), o)
}
