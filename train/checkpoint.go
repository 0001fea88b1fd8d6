package train

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"limner/internal/plaintext"
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
func Checkpoints(outputDir string) ([]string, error) { return checkpoints(realFiles{}, outputDir) }

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
	if err := plaintext.JSON(raw, &m); err != nil {
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

// saved is the state in a verified checkpoint, which is read where it is needed.
type saved struct {
	dir          string
	tree, memory nn.Tree
	components   []Component
	ema          bool
}

// files calls do with each file of the state, the tree of what it holds, and what stands before the keys in the state's.
func (s *saved) files(do func(m *checkpoint.Model, tree nn.Tree, place string) error) error {
	with := func(open func(string) (*checkpoint.Model, error), name string, tree nn.Tree, place string) error {
		m, err := open(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		return errors.Join(do(m, tree, place), m.Close())
	}
	groups := []string{"param"}
	if s.ema {
		groups = append(groups, "ema")
	}
	for _, c := range s.components {
		open := checkpoint.OpenModel
		if c.File != "" {
			open = checkpoint.OpenModelFile
		}
		for _, group := range groups {
			if err := with(open, c.at(group == "ema"), s.tree.Within(c.Name), group+"."+c.Name+"."); err != nil {
				return err
			}
		}
	}
	return with(checkpoint.OpenModelFile, optimizerName, s.memory, "")
}

// check fails unless the files hold what is expected.
func (s *saved) check() error {
	return s.files(func(m *checkpoint.Model, tree nn.Tree, _ string) error { return m.Check(tree) })
}

// each calls visit with every array of the state. The keys are "group.component.key"; data is visit's until it returns.
func (s *saved) each(visit func(key string, data []float32) error) error {
	return s.files(func(m *checkpoint.Model, tree nn.Tree, place string) error {
		return m.Each(tree, func(spec nn.Spec, data []float32) error { return visit(place+spec.Key, data) })
	})
}

// values are the whole state.
func (s *saved) values() (nn.Values, error) {
	values := nn.Values{}
	err := s.each(func(key string, data []float32) error {
		values[key] = slices.Clone(data)
		return nil
	})
	return values, err
}
