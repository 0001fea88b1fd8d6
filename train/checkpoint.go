package train

import (
	"bytes"
	"cmp"
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
	"limner/models/nn"
)

// A checkpoint is a folder checkpoint-N in the output folder, N being the optimizer steps made. It holds the trained
// components in diffusers' layout (with an average, also below NAME_ema), what the optimizer remembers in optimizer.safetensors, where the run
// stood in trainer_state.json, what it was made of in recipe.json, and, written last, manifest.json with the size and SHA-256
// of every file. It is made aside and renamed when it is whole and synced.
const (
	checkpointPrefix = "checkpoint-"
	optimizerName    = "optimizer.safetensors"
	stateName        = "trainer_state.json"
	recipeName       = "recipe.json"
	manifestName     = "manifest.json"
)

// Component is a trained network, for saving.
type Component struct {
	Name   string // its place in the trees and, without File, its folder
	Config any    // its config.json
	// File is, for what is no network of its own, the one file that holds it, and Metadata what its header says beside.
	File     string
	Metadata map[string]string
}

// at is where the component, or its average, lies in a checkpoint.
func (c Component) at(average bool) string {
	name, ext := cmp.Or(c.File, c.Name), filepath.Ext(c.File)
	if average {
		name = strings.TrimSuffix(name, ext) + "_ema" + ext
	}
	return name
}

// State is where a run stands.
type State struct {
	Step      int    `json:"global_step"` // optimizer steps made
	Images    int    `json:"images_seen"`
	Epoch     int    `json:"epoch"`      // that the next batch is of
	NextBatch int    `json:"next_batch"` // of the run, whose order follows from the seed
	Seed      uint64 `json:"seed"`
	// WentBackAt is the step that was not finite, so that the run went on from the checkpoint before it; 0: there was none.
	WentBackAt int `json:"went_back_at,omitempty"`
}

type manifest struct {
	Files map[string]manifestFile `json:"files"`
}

type manifestFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func checkpointName(step int) string { return checkpointPrefix + strconv.Itoa(step) }

// Checkpoints lists the names of the checkpoints in an output folder, the newest first.
func Checkpoints(outputDir string) ([]string, error) { return checkpoints(disk{}, outputDir) }

func checkpoints(files fileSystem, outputDir string) ([]string, error) {
	entries, err := files.ReadDir(outputDir)
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

// VerifyCheckpoint reads every file of a checkpoint and fails unless each is as its manifest says, to the bit.
func VerifyCheckpoint(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%s: %w", manifestName, err)
	}
	// JSON is lenient, with the case of names for one, and nothing else vouches for the manifest.
	if again, err := encodeJSON(m); err != nil || !bytes.Equal(raw, again) {
		return fmt.Errorf("%s: is not as it was written", manifestName)
	}
	for _, name := range []string{stateName, recipeName, optimizerName} {
		if _, ok := m.Files[name]; !ok {
			return fmt.Errorf("%s: does not list %s", manifestName, name)
		}
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

// loadCheckpoint reads a verified checkpoint. The keys of the values are "group.component.key".
func loadCheckpoint(dir string, tree, memory nn.Tree, components []Component, ema bool) (State, nn.Values, error) {
	var state State
	if err := checkpoint.ReadConfig(filepath.Join(dir, stateName), &state); err != nil {
		return state, nil, err
	}
	values := nn.Values{}
	read := func(c Component, group string) error {
		open, path, place := checkpoint.OpenModel, filepath.Join(dir, c.at(group == "ema")), group+"."+c.Name
		if c.File != "" {
			open = checkpoint.OpenModelFile
		}
		m, err := open(path)
		if err != nil {
			return err
		}
		loaded, err := m.Load(tree.Within(c.Name))
		values = nn.Merge(values, loaded.Under(place))
		return errors.Join(err, m.Close())
	}
	for _, c := range components {
		if err := read(c, "param"); err != nil {
			return state, nil, err
		}
		if ema {
			if err := read(c, "ema"); err != nil {
				return state, nil, err
			}
		}
	}
	m, err := checkpoint.OpenModelFile(filepath.Join(dir, optimizerName))
	if err != nil {
		return state, nil, err
	}
	loaded, err := m.Load(memory)
	return state, nn.Merge(values, loaded), errors.Join(err, m.Close())
}
