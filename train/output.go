package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gofrs/flock"

	"limner/internal/disk"
	"limner/models/checkpoint"
)

// runName is the file that marks an output folder as a run's: what it was made of when it last started.
const runName = "run.json"

// textName is the file that the run can be made from again.
const textName = "recipe.yaml"

// temporary are the names that files have while they are being written outside checkpoints: renameio's, with every ending that a
// run's files have, and those with which a folder is tried. A process that is killed leaves them behind.
var temporary = regexp.MustCompile(`^\.([A-Za-z0-9_.-]+\.(html|json|jsonl|png|safetensors|txt|yaml)|limner-try-)[0-9]+$`)

// checkOutput refuses an output folder that is another process's, or not empty and not this run's to go on with. It
// touches nothing.
func checkOutput(o Options) error {
	return errors.Join(checkContents(o), checkOwner(o.OutputDir))
}

func checkContents(o Options) error {
	entries, err := disk.Content(o.OutputDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output folder: %w", err)
	}
	ours := false
	var others []string
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == runName:
			ours = true
		case name != lockName && !temporary.MatchString(name) && !isAside(name):
			others = append(others, name)
		}
	}
	switch {
	case ours && o.ResumeFromCheckpoint == "":
		return fmt.Errorf("output folder %s holds a run already: give --resume_from_checkpoint latest to go on with it, or another --output_dir", o.OutputDir)
	case !ours && len(others) > 0:
		return fmt.Errorf("output folder %s holds something else (%s): give another --output_dir", o.OutputDir, others[0])
	}
	return o.checkResumed()
}

func isAside(name string) bool {
	return slices.ContainsFunc([]string{asidePrefix, replacedPrefix, removedPrefix}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix+checkpointPrefix)
	})
}

// ownOutput makes the output folder and this process its owner, and clears it of what a run that was killed left there half done.
func ownOutput(o Options) (*flock.Flock, error) {
	// Before anything is made in a folder of others, and again when nobody else can make anything there.
	if err := checkContents(o); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.OutputDir, 0o755); err != nil {
		return nil, fmt.Errorf("make output folder: %w", err)
	}
	lock, err := lockOutput(o.OutputDir)
	if err != nil {
		return nil, err
	}
	if err := checkContents(o); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := clearOutput(o.OutputDir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// clearOutput clears an output folder, which this process owns.
func clearOutput(dir string) error {
	names, err := Checkpoints(dir)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := entry.Name()
		if final, ok := strings.CutPrefix(name, replacedPrefix); ok && isAside(name) && !slices.Contains(names, final) {
			// Killed before the new one could take its name.
			return skip(os.Rename(path, filepath.Join(dir, final)))
		}
		switch {
		case entry.IsDir() && isAside(name):
			return skip(os.RemoveAll(path))
		case entry.IsDir() && slices.Contains(names, name):
			return fs.SkipDir
		case !entry.IsDir() && temporary.MatchString(name):
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	return nil
}

// skip is the error, or that a folder is not to be walked.
func skip(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}

// markOutput says what the run is made of. It is the last thing before the run starts.
func markOutput(dir string, r record, text []byte) error {
	if err := checkpoint.WriteJSON(filepath.Join(dir, runName), r); err != nil || text == nil {
		return err
	}
	if err := disk.WriteFile(filepath.Join(dir, textName), text, 0o644); err != nil {
		return fmt.Errorf("write recipe: %w", err)
	}
	return nil
}
