package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"limner/internal/golden"
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

// However limner sample is stopped, what is in its folder are whole images, and with --resume it ends with the same
// bytes as without a stop.
func TestSampleResume(t *testing.T) {
	model, dir := golden.Path(t, "sd15-tiny"), t.TempDir()
	command := func(out string, more ...string) []string {
		return append([]string{
			"sample", "--model", model, "--prompt", "a", "--prompt", "b", "--num_images", "31", "--num_inference_steps",
			"3", "--guidance_scale", "1", "--batch_size", "2", "--scheduler", "euler_a", "--save_latents",
			"--preview_steps", "2", "--output_dir", out,
		}, more...)
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
		{
			syscall.SIGTERM, exitInterrupted,
			"stopped early, %d of 62 images are in stopped: the same command with --resume goes on",
		}, {syscall.SIGKILL, -1, ""},
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
		if _, stderr, code := limner(t, dir, command("stopped")...); code != 1 ||
			!strings.Contains(stderr, fmt.Sprintf("holds %d of the 62 images", len(images))) ||
			!strings.Contains(stderr, "--resume") {
			t.Errorf("without --resume: exit code %d, %q", code, stderr)
		}
		if _, stderr, code := limner(t, dir, command("stopped", "--resume", "--seed", "9")...); code != exitUsage ||
			!strings.Contains(stderr, "--seed: was 0, is 9") {
			t.Errorf("with another seed: exit code %d, %q", code, stderr)
		}
		if !equalFiles(t, files(t, out), before) {
			t.Errorf("%v: what was refused changed the folder", c.signal)
		}
		if stdout, stderr, code := limner(t, dir, command("stopped", "--resume")...); code != 0 ||
			strings.Count(stdout, "  seed ") != 62-len(images) {
			t.Errorf("%v: resumed: exit code %d, %q, %q", c.signal, code, stdout, stderr)
		}
		if !equalFiles(t, files(t, out), want) {
			t.Errorf("%v: resumed, the folder is another than that of one go", c.signal)
		}
	}
	_, stderr, code := limner(t, dir, command("stopped", "--resume")...)
	if code != 0 || !strings.Contains(stderr, "nothing is left to sample") ||
		!equalFiles(t, files(t, filepath.Join(dir, "stopped")), want) {
		t.Errorf("a finished folder: exit code %d, %q", code, stderr)
	}
}

// equalFiles compares folders and names what differs.
func equalFiles(t *testing.T, got, want map[string]string) bool {
	t.Helper()
	equal := true
	for _, name := range slices.Concat(slices.Collect(maps.Keys(got)), slices.Collect(maps.Keys(want))) {
		if got[name] != want[name] {
			t.Logf("%s: %d bytes, want %d", name, len(got[name]), len(want[name]))
			equal = false
		}
	}
	return equal
}
