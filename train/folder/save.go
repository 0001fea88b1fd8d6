package folder

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
)

// Saver writes the checkpoints of a run.
type Saver struct {
	files     fileSystem
	outputDir string
	contents  Contents
	keep      int // checkpoints; 0 keeps all
	record    Record
}

// NewSaver saves into an output folder, with a record of what the run is made of in each checkpoint.
func NewSaver(o Output, contents Contents, record Record) *Saver {
	return &Saver{files: realFiles{}, outputDir: o.Dir, contents: contents, keep: o.Keep, record: record}
}

// Save writes a checkpoint of values, whose keys are "group.component.key", and then removes those that are too many.
// Until the new one is durable nothing of the old ones is touched.
func (s *Saver) Save(values nn.Values, state State) error {
	name := Name(state.Step)
	aside := filepath.Join(s.outputDir, asidePrefix+name)
	// One of a save that failed and could not be cleared away.
	if err := s.files.RemoveAll(aside); err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	err := s.write(aside, values, state)
	if err == nil {
		err = s.publish(aside, name)
	}
	if err != nil {
		_ = s.files.RemoveAll(aside) // else the next start does it
		return fmt.Errorf("save %s: %w", name, err)
	}
	if err := s.prune(state.Step); err != nil {
		return &notPruned{fmt.Errorf("remove checkpoints older than %s: %w", name, err)}
	}
	return nil
}

// notPruned is a save after which checkpoints are left that should have gone. The one that it wrote is whole.
type notPruned struct{ error }

func (e *notPruned) Unwrap() error { return e.error }

// write makes the folder of a checkpoint, whole and synced.
func (s *Saver) write(dir string, values nn.Values, state State) error {
	w := writer{files: s.files, dir: dir, manifest: manifest{Files: map[string]manifestFile{}}}
	if err := w.mkdir("."); err != nil {
		return err
	}
	for _, c := range s.contents.Components {
		if err := w.component(c.at(false), c, s.contents.Trainable, values.Within("param")); err != nil {
			return err
		}
		if s.contents.EMA {
			if err := w.component(c.at(true), c, s.contents.Trainable, values.Within("ema")); err != nil {
				return err
			}
		}
	}
	optimizer := s.contents.Optimizer
	if err := w.model(optimizerName, optimizer.Tree, pick(optimizer.Tree, values), optimizer.DType); err != nil {
		return err
	}
	if err := w.json(RecordName, s.record); err != nil {
		return err
	}
	if err := w.json(stateName, state); err != nil {
		return err
	}
	// The manifest comes when all that it lists is on the disk.
	if err := w.syncDirs(); err != nil {
		return err
	}
	if err := w.json(manifestName, w.manifest); err != nil {
		return err
	}
	return s.files.SyncDir(dir)
}

// publish gives a finished folder its name.
func (s *Saver) publish(aside, name string) error {
	names, err := checkpoints(s.files, s.outputDir)
	if err != nil {
		return err
	}
	final, replaced := filepath.Join(s.outputDir, name), filepath.Join(s.outputDir, replacedPrefix+name)
	// One of the same name is damaged, or of a run that was continued from an earlier step.
	there := slices.Contains(names, name)
	if there {
		if err := errors.Join(s.files.RemoveAll(replaced), s.files.Rename(final, replaced)); err != nil {
			return err
		}
	}
	if err := s.files.Rename(aside, final); err != nil {
		if there {
			err = errors.Join(err, s.files.Rename(replaced, final))
		}
		return err
	}
	if err := s.files.SyncDir(s.outputDir); err != nil {
		return err
	}
	if there {
		return s.files.RemoveAll(replaced)
	}
	return nil
}

// prune removes all but the newest checkpoints up to the one just written. Later ones, which are damaged or of a run
// that was continued from an earlier step, stay until they are written again.
func (s *Saver) prune(step int) error {
	if s.keep == 0 {
		return nil
	}
	names, err := checkpoints(s.files, s.outputDir)
	if err != nil {
		return err
	}
	names = names[slices.Index(names, Name(step)):]
	for _, name := range names[min(s.keep, len(names)):] {
		// It loses its name first: what has the name of a checkpoint is always whole.
		removed := filepath.Join(s.outputDir, removedPrefix+name)
		if err := s.files.RemoveAll(removed); err != nil {
			return err
		}
		if err := s.files.Rename(filepath.Join(s.outputDir, name), removed); err != nil {
			return err
		}
		if err := s.files.RemoveAll(removed); err != nil {
			return err
		}
	}
	return nil
}

// writer writes the files of a checkpoint and keeps the manifest.
type writer struct {
	files    fileSystem
	dir      string
	dirs     []string
	manifest manifest
}

func (w *writer) mkdir(name string) error {
	path := filepath.Join(w.dir, name)
	w.dirs = append(w.dirs, path)
	return w.files.Mkdir(path)
}

// component writes a network as diffusers' folder of it, and what is none as its file.
func (w *writer) component(at string, c Component, tree nn.Tree, values nn.Values) error {
	if c.File != "" {
		return w.create(at, func(to io.Writer) error {
			return checkpoint.WriteModelWith(to, tree.Within(c.Name), values.Within(c.Name), "F32", c.Metadata)
		})
	}
	dir := at
	if err := w.mkdir(dir); err != nil {
		return err
	}
	name := "diffusion_pytorch_model.safetensors"
	if c.Name == diffusers.TextEncoder || c.Name == diffusers.TextEncoder2 {
		name = "model.safetensors"
	}
	if err := w.model(filepath.Join(dir, name), tree.Within(c.Name), values.Within(c.Name), "F32"); err != nil {
		return err
	}
	return w.json(filepath.Join(dir, "config.json"), c.Config)
}

func (w *writer) model(name string, tree nn.Tree, values nn.Values, dtype string) error {
	return w.create(name, func(to io.Writer) error { return checkpoint.WriteModel(to, tree, values, dtype) })
}

func (w *writer) json(name string, v any) error {
	return w.create(name, func(to io.Writer) error {
		raw, err := encodeJSON(v)
		if err != nil {
			return err
		}
		_, err = to.Write(raw)
		return err
	})
}

// create writes and syncs one file and adds it to the manifest.
func (w *writer) create(name string, write func(io.Writer) error) error {
	f, err := w.files.Create(filepath.Join(w.dir, name))
	if err != nil {
		return err
	}
	entry, err := writeHashed(f, write)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	w.manifest.Files[filepath.ToSlash(name)] = entry
	return nil
}

func (w *writer) syncDirs() error {
	for _, dir := range w.dirs {
		if err := w.files.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// writeHashed hashes what is meant to be in the file, so that whatever else gets there is found out by verifying.
func writeHashed(f io.Writer, write func(io.Writer) error) (manifestFile, error) {
	hash, size := sha256.New(), &counter{}
	buffered := bufio.NewWriterSize(io.MultiWriter(f, hash, size), 1<<20)
	if err := write(buffered); err != nil {
		return manifestFile{}, err
	}
	if err := buffered.Flush(); err != nil {
		return manifestFile{}, err
	}
	return manifestFile{Size: size.n, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// pick are the values of a tree out of more.
func pick(tree nn.Tree, values nn.Values) nn.Values {
	out := make(nn.Values, len(tree))
	for _, spec := range tree {
		if data, ok := values[spec.Key]; ok {
			out[spec.Key] = data
		}
	}
	return out
}
