package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
)

// A checkpoint is a folder checkpoint-N in the output folder, N being the optimizer steps made. It holds the trained
// components in diffusers' layout (with an average, also below NAME_ema), the moments in optimizer.safetensors,
// trainer_state.json, and, written last, manifest.json with the size and SHA-256 of every file. It is made aside and
// renamed when it is whole and synced.
const (
	checkpointPrefix = "checkpoint-"
	optimizerName    = "optimizer.safetensors"
	stateName        = "trainer_state.json"
	manifestName     = "manifest.json"
)

// Component is a trained network, for saving.
type Component struct {
	Name   string // its folder, and its place in the trees
	Config any    // its config.json
}

// State is where a run stands.
type State struct {
	Step      int    `json:"global_step"` // optimizer steps made
	Images    int    `json:"images_seen"`
	Seed      uint64 `json:"seed"`
	Batch     int    `json:"global_batch_size"`
	Rows      int    `json:"dataset_rows"`
	Objective string `json:"objective"`
	EMA       bool   `json:"use_ema"`
}

// compatible says why a run in the state now cannot go on from a checkpoint in state s.
func (s State) compatible(now State) error {
	var errs []error
	differ := func(name string, was, is any) {
		if was != is {
			errs = append(errs, fmt.Errorf("%s was %v, now %v", name, was, is))
		}
	}
	differ("the objective", s.Objective, now.Objective)
	differ("seed", s.Seed, now.Seed)
	differ("the global batch size", s.Batch, now.Batch)
	differ("the number of rows", s.Rows, now.Rows)
	differ("use_ema", s.EMA, now.EMA)
	if len(errs) > 0 {
		return fmt.Errorf("%w: give the same to go on, or another output folder", errors.Join(errs...))
	}
	return nil
}

type manifest struct {
	Files map[string]manifestFile `json:"files"`
}

type manifestFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// saveCheckpoint writes a checkpoint of values, whose keys are "group.component.key", and returns its folder.
func saveCheckpoint(outputDir string, tree nn.Tree, components []Component, values nn.Values, state State) (string, error) {
	final := filepath.Join(outputDir, checkpointPrefix+strconv.Itoa(state.Step))
	aside, err := os.MkdirTemp(outputDir, asidePrefix+checkpointPrefix)
	if err != nil {
		return "", fmt.Errorf("save checkpoint: %w", err)
	}
	defer os.RemoveAll(aside)
	if err := writeCheckpoint(aside, tree, components, values, state); err != nil {
		return "", fmt.Errorf("save checkpoint %s: %w", final, err)
	}
	// One of the same name is from a run that was continued from an earlier step, or is damaged.
	if err := os.RemoveAll(final); err != nil {
		return "", fmt.Errorf("save checkpoint: %w", err)
	}
	if err := os.Rename(aside, final); err != nil {
		return "", fmt.Errorf("save checkpoint: %w", err)
	}
	return final, syncPath(outputDir)
}

func writeCheckpoint(dir string, tree nn.Tree, components []Component, values nn.Values, state State) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, c := range components {
		if err := diffusers.SaveComponent(filepath.Join(dir, c.Name), c.Name, c.Config, tree, values.Within("param"), "F32"); err != nil {
			return err
		}
		if state.EMA {
			if err := diffusers.SaveComponent(filepath.Join(dir, c.Name+"_ema"), c.Name, c.Config, tree, values.Within("ema"), "F32"); err != nil {
				return err
			}
		}
	}
	if err := checkpoint.SaveModel(dir, optimizerName, momentTree(tree), moments(values), "F32"); err != nil {
		return err
	}
	if err := checkpoint.WriteJSON(filepath.Join(dir, stateName), state); err != nil {
		return err
	}
	return writeManifest(dir)
}

// momentTree lists both moments of every parameter.
func momentTree(tree nn.Tree) nn.Tree {
	return append(tree.Under("exp_avg"), tree.Under("exp_avg_sq")...)
}

func moments(values nn.Values) nn.Values {
	return nn.Merge(values.Within("exp_avg").Under("exp_avg"), values.Within("exp_avg_sq").Under("exp_avg_sq"))
}

// writeManifest syncs every file and folder below dir and writes the manifest.
func writeManifest(dir string) error {
	m := manifest{Files: map[string]manifestFile{}}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return syncPath(path)
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		m.Files[filepath.ToSlash(name)], err = hashFile(path)
		return err
	})
	if err != nil {
		return err
	}
	if err := checkpoint.WriteJSON(filepath.Join(dir, manifestName), m); err != nil {
		return err
	}
	return syncPath(dir)
}

func hashFile(path string) (manifestFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return manifestFile{}, err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	return manifestFile{Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// checkpoints lists the checkpoints in an output folder, the newest first.
func checkpoints(outputDir string) ([]string, error) {
	entries, err := os.ReadDir(outputDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find checkpoints: %w", err)
	}
	steps := map[string]int{}
	var names []string
	for _, entry := range entries {
		number, ok := strings.CutPrefix(entry.Name(), checkpointPrefix)
		step, err := strconv.Atoi(number)
		if ok && err == nil && entry.IsDir() {
			steps[entry.Name()] = step
			names = append(names, entry.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return steps[b] - steps[a] })
	return names, nil
}

// verify reads every file of a checkpoint and compares it with the manifest.
func verify(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%s: %w", manifestName, err)
	}
	if _, ok := m.Files[stateName]; !ok {
		return fmt.Errorf("%s: does not list %s", manifestName, stateName)
	}
	for name, want := range m.Files {
		got, err := hashFile(filepath.Join(dir, filepath.FromSlash(name)))
		switch {
		case err != nil:
			return err
		case got.Size != want.Size:
			return fmt.Errorf("%s: got %d bytes, want %d", name, got.Size, want.Size)
		case got.SHA256 != want.SHA256:
			return fmt.Errorf("%s: its SHA-256 is not the manifest's", name)
		}
	}
	return nil
}

// loadCheckpoint reads a verified checkpoint. The keys of the values are "group.component.key".
func loadCheckpoint(dir string, tree nn.Tree, components []Component) (State, nn.Values, error) {
	var state State
	if err := verify(dir); err != nil {
		return state, nil, err
	}
	if err := checkpoint.ReadConfig(filepath.Join(dir, stateName), &state); err != nil {
		return state, nil, err
	}
	values := nn.Values{}
	read := func(path, place string, tree nn.Tree) error {
		m, err := checkpoint.OpenModel(path)
		if err != nil {
			return err
		}
		loaded, err := m.Load(tree)
		values = nn.Merge(values, loaded.Under(place))
		return errors.Join(err, m.Close())
	}
	for _, c := range components {
		if err := read(filepath.Join(dir, c.Name), "param."+c.Name, tree.Within(c.Name)); err != nil {
			return state, nil, err
		}
		if state.EMA {
			if err := read(filepath.Join(dir, c.Name+"_ema"), "ema."+c.Name, tree.Within(c.Name)); err != nil {
				return state, nil, err
			}
		}
	}
	m, err := checkpoint.OpenModelFile(filepath.Join(dir, optimizerName))
	if err != nil {
		return state, nil, err
	}
	loaded, err := m.Load(momentTree(tree))
	return state, nn.Merge(values, loaded), errors.Join(err, m.Close())
}

// prune removes all but the newest checkpoints.
func prune(outputDir string, keep int) error {
	if keep == 0 {
		return nil
	}
	names, err := checkpoints(outputDir)
	if err != nil {
		return err
	}
	for _, name := range names[min(keep, len(names)):] {
		if err := os.RemoveAll(filepath.Join(outputDir, name)); err != nil {
			return fmt.Errorf("remove an old checkpoint: %w", err)
		}
	}
	return nil
}
