package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"limner/internal/disk"
	"limner/internal/refusal"
	"limner/models/checkpoint"
)

// RunName is the file that marks an output folder as a run's: what it was made of when it last started.
const RunName = "run.json"

// TextName is the file that the run can be made from again.
const TextName = "recipe.yaml"

// temporary are the names that files have while they are being written outside checkpoints: renameio's, with every
// ending that a run's files have, and those with which a folder is tried. A process that is killed leaves them behind.
var temporary = regexp.MustCompile(
	`^\.([A-Za-z0-9_.-]+\.(html|json|jsonl|png|safetensors|txt|yaml)|limner-try-)[0-9]+$`)

// Output is the output folder of a run, under the names of flags.
type Output struct {
	Dir                  string // output_dir
	ResumeFromCheckpoint string // "latest", the name of a checkpoint or its path, or nothing
	Every                int    // checkpointing_steps
	Keep                 int    // checkpoints_total_limit; 0 keeps all
}

// Check refuses an output folder that is another process's, or not empty and not this run's to go on with. It touches
// nothing.
func (o Output) Check() error {
	return errors.Join(o.checkContents(), checkOwner(o.Dir))
}

func (o Output) checkContents() error {
	entries, err := disk.Content(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output folder: %w", err)
	}
	ours := false
	var others []string
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == RunName:
			ours = true
		case name != lockName && !temporary.MatchString(name) && !isAside(name):
			others = append(others, name)
		}
	}
	switch {
	case ours && o.ResumeFromCheckpoint == "":
		return fmt.Errorf("output folder %s holds a run already: give --resume_from_checkpoint latest to go on with "+
			"it, or another --output_dir", o.Dir)
	case !ours && len(others) > 0:
		return fmt.Errorf("output folder %s holds something else (%s): give another --output_dir", o.Dir, others[0])
	}
	return o.checkResumed()
}

// Resumed is the name of the checkpoint to go on from, which may be given as its path.
func (o Output) Resumed() string {
	given := filepath.Clean(o.ResumeFromCheckpoint)
	if name := filepath.Base(given); given == filepath.Join(o.Dir, name) {
		return name
	}
	return o.ResumeFromCheckpoint
}

// checkResumed refuses a checkpoint that is not one of the output folder's.
func (o Output) checkResumed() error {
	given := o.Resumed()
	if given == "" || given == "latest" {
		return nil
	}
	names, err := Checkpoints(o.Dir)
	if err != nil || slices.Contains(names, given) {
		return err
	}
	there := "it has none"
	if len(names) > 0 {
		there = "there are " + strings.Join(names, ", ")
	}
	return refusal.Errorf("resume_from_checkpoint: %q is no checkpoint in %s: give latest or the name of one; %s",
		given, o.Dir, there)
}

func isAside(name string) bool {
	return slices.ContainsFunc([]string{asidePrefix, replacedPrefix, removedPrefix}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix+checkpointPrefix)
	})
}

// Own makes the output folder and this process its owner until the lock is closed, and clears it of what a run that was
// killed left there half done.
func (o Output) Own() (lock io.Closer, err error) {
	// Before anything is made in a folder of others, and again when nobody else can make anything there.
	if err := o.checkContents(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make output folder: %w", err)
	}
	if lock, err = lockOutput(o.Dir); err != nil {
		return nil, err
	}
	if err := o.checkContents(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := clearOutput(o.Dir); err != nil {
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

// Mark says what the run is made of, and with text, what it can be made from again. It is the last thing before the run
// starts.
func (o Output) Mark(record Record, text []byte) error {
	if err := checkpoint.WriteJSON(filepath.Join(o.Dir, RunName), record); err != nil || text == nil {
		return err
	}
	if err := disk.WriteFile(filepath.Join(o.Dir, TextName), text, 0o644); err != nil {
		return fmt.Errorf("write recipe: %w", err)
	}
	return nil
}
