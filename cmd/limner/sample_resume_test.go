package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"limner/data/imaging"
	"limner/internal/golden"
	"limner/sample"
)

// stopSample runs limner sample and sends it a signal when it has written an image.
func stopSample(t *testing.T, dir string, signal syscall.Signal, args ...string) (stderr string, code int) {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	command.Dir, command.Env = dir, append(os.Environ(), asCommand+"=1", "LIMNER_COMPILATION_CACHE_DIR="+compiled)
	var log bytes.Buffer
	command.Stderr = &log
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if lines.Scan() {
		if err := command.Process.Signal(signal); err != nil {
			t.Error(err)
		}
	}
	for lines.Scan() { // until it ends
	}
	_ = command.Wait() // the exit code tells
	return log.String(), command.ProcessState.ExitCode()
}

// files are all files of a folder, by their names in it.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// However limner sample is stopped, what is in its folder are whole images, and with --resume it ends with the same bytes as without a stop.
func TestSampleResume(t *testing.T) {
	model, dir := golden.Path(t, "sd15-tiny"), t.TempDir()
	command := func(out string, more ...string) []string {
		return append([]string{"sample", "--model", model, "--prompt", "a", "--prompt", "b", "--num_images", "31", "--num_inference_steps", "3", "--guidance_scale", "1",
			"--batch_size", "2", "--scheduler", "euler_a", "--save_latents", "--preview_steps", "2", "--output_dir", out}, more...)
	}
	if _, stderr, code := limner(t, dir, command("whole")...); code != 0 {
		t.Fatal(stderr)
	}
	want := files(t, filepath.Join(dir, "whole"))
	if n := len(want); n != 62+62+3 {
		t.Fatalf("%d files", n)
	}
	for _, c := range []struct {
		signal syscall.Signal
		code   int
		says   string
	}{
		{syscall.SIGTERM, exitInterrupted, "stopped early, %d of 62 images are in stopped: the same command with --resume goes on"}, {syscall.SIGKILL, -1, ""},
	} {
		out := filepath.Join(dir, "stopped")
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		stderr, code := stopSample(t, dir, c.signal, command("stopped")...)
		images, err := filepath.Glob(filepath.Join(out, "image-*.png"))
		if err != nil || len(images) == 0 || len(images) == 62 {
			t.Fatalf("%v: %d images, %v: %s", c.signal, len(images), err, stderr)
		}
		if c.says != "" {
			c.says = fmt.Sprintf(c.says, len(images))
		}
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit code %d, want %d, and %q in %q", c.signal, code, c.code, c.says, stderr)
		}
		for _, path := range images {
			if name := filepath.Base(path); string(readFile(t, path)) != want[name] {
				t.Errorf("%v: %s is another than without the signal", c.signal, name)
			}
		}
		// What a process leaves that is killed while it writes.
		for _, name := range []string{".image-00061.png123", ".sample.json4", "previews/.image-00000-step-0002.png5"} {
			if err := os.WriteFile(filepath.Join(out, name), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := files(t, out)
		if _, stderr, code := limner(t, dir, command("stopped")...); code != 1 || !strings.Contains(stderr, fmt.Sprintf("holds %d of the 62 images", len(images))) || !strings.Contains(stderr, "--resume") {
			t.Errorf("without --resume: exit code %d, %q", code, stderr)
		}
		if _, stderr, code := limner(t, dir, command("stopped", "--resume", "--seed", "9")...); code != exitUsage || !strings.Contains(stderr, "--seed: was 0, is 9") {
			t.Errorf("with another seed: exit code %d, %q", code, stderr)
		}
		if !equalFiles(t, files(t, out), before) {
			t.Errorf("%v: what was refused changed the folder", c.signal)
		}
		if stdout, stderr, code := limner(t, dir, command("stopped", "--resume")...); code != 0 || strings.Count(stdout, "  seed ") != 62-len(images) {
			t.Errorf("%v: resumed: exit code %d, %q, %q", c.signal, code, stdout, stderr)
		}
		if !equalFiles(t, files(t, out), want) {
			t.Errorf("%v: resumed, the folder is another than that of one go", c.signal)
		}
	}
	_, stderr, code := limner(t, dir, command("stopped", "--resume")...)
	if code != 0 || !strings.Contains(stderr, "nothing is left to draw") || !equalFiles(t, files(t, filepath.Join(dir, "stopped")), want) {
		t.Errorf("a finished folder: exit code %d, %q", code, stderr)
	}
}

// equalFiles compares folders and names what differs.
func equalFiles(t *testing.T, got, want map[string]string) bool {
	t.Helper()
	equal := true
	for _, name := range slices.Concat(sortedKeys(got), sortedKeys(want)) {
		if got[name] != want[name] {
			t.Logf("%s: %d bytes, want %d", name, len(got[name]), len(want[name]))
			equal = false
		}
	}
	return equal
}

func TestOutputRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	folders := []string{filepath.Join(dir, "file"), filepath.Join(dir, "file", "below")}
	if os.Getuid() != 0 { // who may write everywhere
		folders = append(folders, locked, filepath.Join(locked, "a", "b"))
	}
	for _, out := range folders {
		if o, err := openOutput(out, false); err == nil || !strings.Contains(err.Error(), "output folder: ") {
			t.Errorf("%s: %v, %v", out, o, err)
		}
	}
	o, err := openOutput(filepath.Join(dir, "a", "b"), false)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("looking at a folder left %v, %v", entries, err)
	}
	if err := o.checkSpace(1 << 60); err == nil || !strings.Contains(err.Error(), "MB are free") {
		t.Errorf("of a full disk: %v", err)
	}
}

// A grid of many images is made smaller, and stays within what viewers show.
func TestGridOfMany(t *testing.T) {
	for _, c := range []struct {
		prompts, images, width, height, controls int
		want                                     string // columns × rows of the grid, what its images are divided by, and its size
	}{
		{2, 2, 64, 64, 0, "2×2, 1, 152×152"}, {5, 1, 64, 64, 0, "3×2, 1, 224×152"}, {1, 4, 512, 512, 0, "4×1, 1, 2088×528"}, {1, 2, 5000, 8, 0, "2×1, 2, 5024×20"},
		{1, 500, 512, 512, 0, "23×22, 3, 4125×3946"}, {10, 100, 512, 512, 1, "33×40, 4, 4496×5448"}, {100_000, 1, 512, 512, 0, "317×316, 52, 5714×5696"},
	} {
		a := &artist{cmd: &sampleCmd{writtenFlags: writtenFlags{NumImages: c.images}}}
		for i := range c.prompts * c.images {
			d := drawing{Height: c.height, Width: c.width, ControlImage: make([]string, c.controls)}
			a.work = append(a.work, &job{drawing: d, index: i})
		}
		rows := a.gridRows()
		k, sizes := fit(rows, nil)
		size := sample.GridSize(sizes, gridGap)
		if got := fmt.Sprintf("%d×%d, %d, %d×%d", len(rows[0]), len(rows), k, size.X, size.Y); got != c.want {
			t.Errorf("%d prompts with %d images: got %s, want %s", c.prompts, c.images, got, c.want)
		}
		if c.width != 5000 {
			continue
		}
		for i := range rows[0] {
			rows[0][i].read = func() (*imaging.RGB, error) { return imaging.NewRGB(c.width, c.height), nil }
		}
		if m, err := overview("grid.png", rows); err != nil || m.Width != size.X || m.Height != size.Y {
			t.Errorf("the grid: %v", err)
		}
	}
	one := place{width: 1, height: 1}
	if k, _ := fit([][]place{slices.Repeat([]place{one}, gridSide)}, nil); k != 0 {
		t.Errorf("a grid of too many images is made at 1/%d", k)
	}
}
