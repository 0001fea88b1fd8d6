package plugin

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDiagnoseCPU(t *testing.T) {
	for _, n := range []int{0, 3} {
		r := Diagnose(t.Context(), DoctorOptions{Devices: n, WorkDir: t.TempDir()})
		for _, p := range r.Problems {
			t.Errorf("problem: %s: %s", p.What, p.Do)
		}
		if !r.OK {
			t.Error("not OK")
		}
		if len(r.Devices) != max(n, 1) {
			t.Fatalf("%d devices, want %d", len(r.Devices), max(n, 1))
		}
		if d := r.Devices[0]; d.Kind != "cpu" || d.Name == "" {
			t.Errorf("device %+v, want kind cpu and a name", d)
		}
		if os.Getenv("LIMNER_PLUGIN") == "" {
			w := Wheels()[0]
			want := PluginReport{
				Path: r.Plugin.Path, Package: w.Package, Version: w.Version, SHA256: w.PluginSHA256, Checked: true,
				API: w.API, HeaderAPI: headerAPI, Platform: "cpu", PlatformVersion: r.Plugin.PlatformVersion,
			}
			if diff := cmp.Diff(want, r.Plugin); diff != "" {
				t.Errorf("plugin (-want +got):\n%s", diff)
			}
		}
		if r.Machine.Cores < 1 || r.Machine.OS == "" {
			t.Errorf("machine %+v", r.Machine)
		}
	}
}

func TestReportJSONAndText(t *testing.T) {
	r := Diagnose(t.Context(), DoctorOptions{WorkDir: t.TempDir()})
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("through JSON (-want +got):\n%s", diff)
	}
	text := r.Text()
	for _, want := range []string{
		"cpu, 1 device\n", r.Devices[0].Name, r.Plugin.Path, "PJRT API " + r.Plugin.API,
		"working folder", "nothing is wrong",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
}

func TestDiagnoseProblems(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.so")
	if err := os.WriteFile(broken, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged", "x.so")
	if err := os.MkdirAll(filepath.Dir(damaged), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(damaged, []byte("xx"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(damaged), "installed.json"), []byte(`{"file":"x.so","size":2,"sha256":"00"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	shared, own := filepath.Join(dir, "shared"), filepath.Join(dir, "own")
	open, closed := filepath.Join(own, "open"+ExecutableExt), filepath.Join(own, "closed"+ExecutableExt)
	inShared, writable := filepath.Join(shared, "x.so"), filepath.Join(own, "x.so")
	for _, err := range []error{
		os.Mkdir(shared, 0o700), os.Mkdir(own, 0o700), os.WriteFile(open, nil, 0o600), os.WriteFile(closed, nil, 0o600),
		os.Chmod(shared, 0o777), os.Chmod(open, 0o666),
		os.WriteFile(inShared, nil, 0o644), os.WriteFile(writable, nil, 0o644), os.Chmod(writable, 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		o        DoctorOptions
		what, do string
	}{
		"unknown backend": {DoctorOptions{Backend: "gpu"}, `unknown backend "gpu"`, "run limner doctor again"},
		"missing plugin": {
			DoctorOptions{Backend: filepath.Join(dir, "none.so")}, "none.so", "run limner doctor again",
		},
		"no library": {DoctorOptions{Backend: broken}, "does not load", "ldd " + broken},
		"damaged plugin": {
			DoctorOptions{Backend: damaged}, "is damaged", "remove the folder " + filepath.Dir(damaged),
		},
		"unwritable folder": {
			DoctorOptions{WorkDir: filepath.Join(file, "below")}, "working folder " + file + "/below cannot be written",
			"work in a folder",
		},
		"unwritable cache": {
			DoctorOptions{Backend: broken, Install: InstallOptions{CacheDir: file}},
			"cache " + file + " cannot be written", "set LIMNER_CACHE",
		},
		"a folder of programs that others can write": {
			DoctorOptions{Backend: broken, Cache: shared},
			shared + " can be written by other users (its mode is 0777): chmod go-w " + shared,
			"nobody else works with it",
		},
		"a program that others can write": {
			DoctorOptions{Backend: broken, Cache: own},
			"1 of 2 compiled programs in " + own + " are not loaded, the first: " + open,
			"set LIMNER_COMPILATION_CACHE_DIR",
		},
		"a plugin that others can write": {
			DoctorOptions{Backend: writable}, "plugin " + writable + " is native code", "do what the message says",
		},
		"a plugin's folder that others can write": {
			DoctorOptions{Backend: inShared}, shared + " can be written by other users", "a folder of your own",
		},
		"takes too long": {
			DoctorOptions{Timeout: time.Nanosecond}, "did not answer within 1ns", "no other program holds the devices",
		},
		"no place to unpack": {
			DoctorOptions{
				Backend: "cpu", Install: InstallOptions{CacheDir: file, Getenv: func(string) string { return "" }},
			}, "install the cpu plugin", "run limner doctor again",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Diagnose(t.Context(), c.o)
			if r.OK {
				t.Error("OK")
			}
			for _, p := range r.Problems {
				if strings.Contains(p.What, c.what) && strings.Contains(p.Do, c.do) {
					if strings.Contains(r.Text(), "sha256 checked") && name == "damaged plugin" {
						t.Errorf("the text says that the sha256 is right:\n%s", r.Text())
					}
					if !strings.Contains(r.Text(), p.What) {
						t.Errorf("the text lacks the problem:\n%s", r.Text())
					}
					return
				}
			}
			t.Errorf("problems %+v, want %q: %q", r.Problems, c.what, c.do)
		})
	}
}

func TestDiagnoseCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	r := Diagnose(ctx, DoctorOptions{WorkDir: t.TempDir()})
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What, context.Canceled.Error()) {
		t.Errorf("problems %+v, want one: %v", r.Problems, context.Canceled)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
}

// TestDiagnoseTPU runs where libtpu is in the cache already: it is too big to fetch for a test.
func TestDiagnoseTPU(t *testing.T) {
	cache, err := CacheDir(os.Getenv)
	if err != nil {
		t.Skip(err)
	}
	var path string
	for _, w := range Wheels() {
		if w.Name == "tpu" {
			_, path, err = w.slot(cache).readMark()
		}
	}
	if err != nil {
		t.Skipf("libtpu is not installed: %v", err)
	}
	if HasTPU("/dev") {
		t.Skip("this machine has a TPU")
	}
	start := time.Now()
	r := Diagnose(t.Context(), DoctorOptions{Backend: path, WorkDir: t.TempDir()})
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("took %s", d)
	}
	if r.OK || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Do, "this machine has no TPU") {
		t.Errorf("problems %+v, want one: no TPU", r.Problems)
	}
	if r.Plugin.API == "" {
		t.Error("no PJRT API version, although the plugin loads")
	}
}

func TestHubCache(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{nil, "/home/u/.cache/huggingface/hub"},
		{map[string]string{"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"},
		{map[string]string{"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"},
		{map[string]string{"HF_HOME": "/h", "HF_HUB_CACHE": "/c"}, "/c"},
	} {
		if got := hubCache(func(key string) string { return c.env[key] }); got != c.want {
			t.Errorf("%v: %s, want %s", c.env, got, c.want)
		}
	}
}
