package folder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"limner/models/diffusers"
	"limner/models/nn"
)

// tinySaver saves two networks of some parameters, with averages.
func tinySaver(dir string, files fileSystem, keep int) *Saver {
	tree := nn.Tree{
		{Key: "unet.conv_in.weight", Shape: []int{3, 3, 4, 8}, Kind: nn.Kernel},
		{Key: "unet.conv_in.bias", Shape: []int{8}},
		{Key: "text_encoder.proj.weight", Shape: []int{5, 7}, Kind: nn.Dense},
	}
	contents := Contents{Trainable: tree, EMA: true, Optimizer: moments(tree, "F32"), Components: []Component{
		{Name: diffusers.UNet, Config: map[string]any{"sample_size": 8}},
		{Name: diffusers.TextEncoder, Config: map[string]any{"vocab_size": 5}},
	}}
	s := NewSaver(Output{Dir: dir, Keep: keep}, contents, Record{Objective: "controlnet"})
	s.files = files
	return s
}

// moments are the optimizer state of AdamW.
func moments(tree nn.Tree, dtype string) OptimizerState {
	o := OptimizerState{DType: dtype}
	for _, spec := range tree {
		for _, slot := range []string{"exp_avg.", "exp_avg_sq."} {
			moment := spec
			moment.Key = slot + spec.Key
			o.Tree = append(o.Tree, moment)
		}
	}
	return o
}

// valuesAt are the state after a step.
func (s *Saver) valuesAt(step int) nn.Values {
	values, rng := nn.Values{}, rand.New(rand.NewPCG(1, uint64(step)))
	add := func(tree nn.Tree, place string) {
		for _, spec := range tree {
			data := make([]float32, spec.Size())
			for i := range data {
				data[i] = float32(rng.NormFloat64())
			}
			values[place+spec.Key] = data
		}
	}
	add(s.contents.Trainable, "param.")
	add(s.contents.Trainable, "ema.")
	add(s.contents.Optimizer.Tree, "")
	return values
}

func (s *Saver) saveAt(step int) error {
	return s.Save(s.valuesAt(step), State{Step: step, Images: 4 * step, NextBatch: step, Seed: 3})
}

// check fails unless the checkpoint of a step is there as it was saved.
func (s *Saver) check(step int) error {
	dir := filepath.Join(s.outputDir, Name(step))
	if err := Verify(dir); err != nil {
		return err
	}
	state, values, err := readCheckpoint(dir, s.contents)
	if err != nil {
		return err
	}
	if state.Step != step || state.NextBatch != step || !maps.EqualFunc(values, s.valuesAt(step), equalFloats) {
		return fmt.Errorf("%s holds another state", dir)
	}
	return nil
}

// readCheckpoint reads a whole checkpoint.
func readCheckpoint(dir string, contents Contents) (state State, values nn.Values, err error) {
	from, state, err := Open(dir, contents)
	if err != nil {
		return state, nil, err
	}
	values, err = from.Values()
	return state, values, err
}

func equalFloats(a, b []float32) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// failing is a disk whose call number at fails, as fault says. With at 0 it counts calls.
type failing struct {
	realFiles
	calls, at int
	fault     error
}

// errShortWrite makes a write put half of its bytes on the disk and claim no error.
var errShortWrite = errors.New("short write")

func (f *failing) call() error {
	if f.calls++; f.calls == f.at {
		return f.fault
	}
	return nil
}

func (f *failing) ReadDir(path string) ([]fs.DirEntry, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	return f.realFiles.ReadDir(path)
}

func (f *failing) Mkdir(path string) error {
	return firstError(f.call, func() error { return f.realFiles.Mkdir(path) })
}

func (f *failing) Rename(from, to string) error {
	return firstError(f.call, func() error { return f.realFiles.Rename(from, to) })
}

func (f *failing) RemoveAll(path string) error {
	return firstError(f.call, func() error { return f.realFiles.RemoveAll(path) })
}

func (f *failing) SyncDir(path string) error {
	return firstError(f.call, func() error { return f.realFiles.SyncDir(path) })
}

func (f *failing) Create(path string) (newFile, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	file, err := f.realFiles.Create(path)
	return failingFile{file, f}, err
}

type failingFile struct {
	newFile
	disk *failing
}

func (f failingFile) Write(p []byte) (int, error) {
	err := f.disk.call()
	if err == nil {
		return f.newFile.Write(p)
	}
	n, _ := f.newFile.Write(p[:len(p)/2])
	if errors.Is(err, errShortWrite) {
		err = nil
	}
	return n, err
}

func (f failingFile) Sync() error { return firstError(f.disk.call, f.newFile.Sync) }

func (f failingFile) Close() error {
	err := f.newFile.Close()
	return errors.Join(f.disk.call(), err)
}

func firstError(calls ...func() error) error {
	for _, call := range calls {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// Whichever call of a save fails, the save says so, the checkpoints before it are whole, and the next save works.
func TestEachCallOfASaveFails(t *testing.T) {
	for _, replace := range []bool{false, true} {
		prepare := func(files fileSystem) *Saver {
			s := tinySaver(t.TempDir(), realFiles{}, 1)
			if err := s.saveAt(2); err != nil {
				t.Fatal(err)
			}
			if replace { // a damaged one of the same name
				if err := os.Mkdir(filepath.Join(s.outputDir, Name(4)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(s.outputDir, Name(4), manifestName),
					[]byte("{"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			s.files = files
			return s
		}
		count := &failing{}
		if err := prepare(count).saveAt(4); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for _, fault := range []error{syscall.ENOSPC, syscall.EIO, errShortWrite} {
			for k := 1; k <= count.calls; k++ {
				files := &failing{at: k, fault: fault}
				s := prepare(files)
				err := s.saveAt(4)
				if err == nil || !strings.Contains(err.Error(), fault.Error()) {
					t.Errorf("call %d with %q: got %v", k, fault, err)
				}
				if err != nil && !strings.Contains(err.Error(), Name(4)) {
					t.Errorf("call %d: %q does not say what could not be saved", k, err)
				}
				failed++
				// A start afterwards finds the new one, if it was whole before the call, or the one before.
				if err := clearOutput(s.outputDir); err != nil {
					t.Errorf("call %d: %v", k, err)
				}
				if s.check(4) != nil {
					if err := s.check(2); err != nil {
						t.Errorf("call %d with %q: the checkpoint before is lost: %v", k, fault, err)
					}
				}
				s.files = realFiles{}
				if err := s.saveAt(6); err != nil {
					t.Errorf("the save after call %d failed: %v", k, err)
				}
				if err := s.check(6); err != nil {
					t.Errorf("the save after call %d: %v", k, err)
				}
				checkNames(t, s.outputDir, 6)
			}
		}
		t.Logf("replacing %v: a save makes %d calls; %d failing calls, each once with no space, "+
			"an I/O error and a short write", replace, count.calls, failed)
	}
}

// checkNames fails unless an output folder holds the checkpoints of these steps and nothing else.
func checkNames(t *testing.T, dir string, steps ...int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, step := range steps {
		want[Name(step)] = true
	}
	for _, entry := range entries {
		got[entry.Name()] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("the folder holds %v, want %v", got, want)
	}
}

// A flipped bit anywhere in a checkpoint is found out.
func TestFlippedBits(t *testing.T) {
	s := tinySaver(t.TempDir(), realFiles{}, 0)
	if err := s.saveAt(2); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.outputDir, Name(2))
	var paths []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const flips = 500
	rng, detected := rand.New(rand.NewPCG(5, 0)), 0
	flip := func(path string, bit int) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(raw)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if Verify(dir) == nil {
			t.Errorf("%s: bit %d flipped and not detected", path, bit)
		} else {
			detected++
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range flips {
		path := paths[rng.IntN(len(paths))]
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		flip(path, rng.IntN(8*int(info.Size())))
	}
	// The manifest vouches for the rest and nothing for it: every bit of it.
	manifest := filepath.Join(dir, manifestName)
	info, err := os.Stat(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * int(info.Size()) {
		flip(manifest, bit)
	}
	t.Logf("%d flipped bits over %d files and each of the manifest's %d: %d detected",
		flips, len(paths), 8*info.Size(), detected)
	if err := s.check(2); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	for _, c := range []struct {
		name string
		keep int
		save []int
		want []int
	}{
		{"all", 0, []int{2, 4, 6}, []int{2, 4, 6}},
		{"one", 1, []int{2, 4, 6}, []int{6}},
		{"two", 2, []int{2, 4, 6, 8}, []int{6, 8}},
		{"by number, not by name", 2, []int{9, 10, 11}, []int{10, 11}},
		{"going on from an earlier one", 1, []int{6, 3}, []int{3, 6}},
		{"the same again", 1, []int{2, 2}, []int{2}},
	} {
		s := tinySaver(t.TempDir(), realFiles{}, c.keep)
		for _, step := range c.save {
			if err := s.saveAt(step); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		checkNames(t, s.outputDir, c.want...)
	}
}

// A start puts right what a kill at any moment of a save left behind.
func TestClearOutput(t *testing.T) {
	s := tinySaver(t.TempDir(), realFiles{}, 0)
	for _, step := range []int{2, 4, 6} {
		if err := s.saveAt(step); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(s.outputDir, name) }
	for from, to := range map[string]string{
		Name(2): removedPrefix + Name(2),
		Name(4): replacedPrefix + Name(4), // killed before the new one had its name
	} {
		if err := os.Rename(at(from), at(to)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{asidePrefix + Name(8), replacedPrefix + Name(6), "unet"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		".limner-try-2490575791", ".run.json123", ".metrics.jsonl77", "unet/.config.json5",
		".diary.html5577006791947779410", ".recipe.yaml8", "unet/.diffusion_pytorch_model.safetensors9",
	} {
		if err := os.WriteFile(at(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := clearOutput(s.outputDir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(at("unet")); err != nil || len(entries) != 0 {
		t.Errorf("left in a folder of the result: %v, %v", entries, err)
	}
	if err := os.Remove(at("unet")); err != nil {
		t.Fatal(err)
	}
	checkNames(t, s.outputDir, 4, 6)
	for _, step := range []int{4, 6} {
		if err := s.check(step); err != nil {
			t.Error(err)
		}
	}
}

// Checkpoints of earlier versions have moments of 16 bits in F32.
func TestOlderMoments(t *testing.T) {
	s := tinySaver(t.TempDir(), realFiles{}, 0)
	if err := s.saveAt(1); err != nil {
		t.Fatal(err)
	}
	s.contents.Optimizer.DType = "BF16"
	if err := s.check(1); err != nil {
		t.Error(err)
	}
}
