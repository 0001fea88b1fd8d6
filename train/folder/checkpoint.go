// Package folder keeps the output folder of a training run: its lock, its checkpoints and their space, and the record
// of what the run is made of.
package folder

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

	"limner/internal/plaintext"
)

// A checkpoint is a folder checkpoint-N in the output folder, N being the optimizer steps made. It holds the trained
// components in diffusers' layout (with an average, also below NAME_ema), what the optimizer remembers in
// optimizer.safetensors, where the run stood in trainer_state.json, what it was made of in recipe.json, and, written
// last, manifest.json with the size and SHA-256 of every file. It is made aside and renamed when it is whole and
// synced.
const (
	checkpointPrefix = "checkpoint-"
	optimizerName    = "optimizer.safetensors"
	stateName        = "trainer_state.json"
	manifestName     = "manifest.json"
)

// The prefixes of folders in an output folder that are no checkpoints: one that is being written, one that another of
// its name is taking the place of, and one that is being removed.
const (
	asidePrefix    = ".writing-"
	replacedPrefix = ".replaced-"
	removedPrefix  = ".removing-"
)

// RecordName is the file of a checkpoint that says what its run was made of.
const RecordName = "recipe.json"

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
	// WentBackAt is the step that was not finite, so that the run went on from the checkpoint before it; 0: there was
	// none.
	WentBackAt int `json:"went_back_at,omitempty"`
}

type manifest struct {
	Files map[string]manifestFile `json:"files"`
}

type manifestFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Name is that of the checkpoint after a step.
func Name(step int) string { return checkpointPrefix + strconv.Itoa(step) }

// Checkpoints lists the names of the checkpoints in an output folder, the newest first.
func Checkpoints(outputDir string) ([]string, error) { return checkpoints(realFiles{}, outputDir) }

// Newest is the step of the newest checkpoint in an output folder; 0 where there is none.
func Newest(outputDir string) (step int, err error) {
	names, err := Checkpoints(outputDir)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	return strconv.Atoi(strings.TrimPrefix(names[0], checkpointPrefix))
}

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

// Verify reads every file of a checkpoint and fails unless each is as its manifest says, to the bit.
func Verify(dir string) error {
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
	for _, name := range []string{stateName, RecordName, optimizerName} {
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

// encodeJSON is indented, with a newline at the end. Equal values give equal bytes.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}
