package plugin

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"limner/internal/disk"
)

// fakePlugin is what the fake wheel holds: long enough to come in several pieces.
var fakePlugin = bytes.Repeat([]byte("not a plugin, but as good as one. "), 40_000)

// fakeWheel returns a wheel with fakePlugin in it, and its pin.
func fakeWheel(t *testing.T) (Wheel, []byte) {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, data := range map[string][]byte{
		"../../escape.so":   []byte("zip slip"),
		"fake/__init__.py":  []byte("pass\n"),
		"fake/lib/fake.so":  fakePlugin,
		"fake/lib/other.so": []byte("another"),
	} {
		// Stored, so that a wheel cut short has lost a part of the plugin.
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return Wheel{
		Name: "cpu", Package: "fake", Version: "1.2", Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Size: int64(buf.Len()), SHA256: sum(buf.Bytes()),
		Member: "fake/lib/fake.so", Unpacked: int64(len(fakePlugin)), PluginSHA256: sum(fakePlugin),
	}, buf.Bytes()
}

// serve serves handler and points w's URL to it.
func serve(t *testing.T, w *Wheel, handler http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	w.URL = server.URL + "/packages/fake-1.2-py3-none-any.whl"
}

// wantInstalled checks the installed plugin's bytes, and that nothing else is left.
func wantInstalled(t *testing.T, cache, path string) {
	t.Helper()
	if want := filepath.Join(cache, "plugins", "fake-1.2", "fake.so"); path != want {
		t.Errorf("path %s, want %s", path, want)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, fakePlugin) {
		t.Errorf("the plugin's %d bytes are not the wheel's %d", len(got), len(fakePlugin))
	}
	wantFiles(t, filepath.Join(cache, "plugins", "fake-1.2"), "checked.json", "fake.so", "installed.json")
	wantFiles(t, cache, "plugins")
}

// wantNothing checks that a failed install left no plugin and no half-written files.
func wantNothing(t *testing.T, cache string) {
	t.Helper()
	wantFiles(t, filepath.Join(cache, "plugins"), ".fake-1.2.lock")
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

func TestInstallDownloads(t *testing.T) {
	w, data := fakeWheel(t)
	var requests atomic.Int32
	serve(t, &w, func(rw http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		rw.Write(data)
	})
	cache := t.TempDir()
	var log bytes.Buffer
	for range 2 {
		path, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache, Progress: &log})
		if err != nil {
			t.Fatal(err)
		}
		wantInstalled(t, cache, path)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests for two installs, want 1", n)
	}
	for _, want := range []string{"downloading fake 1.2", "installed the cpu plugin in " + cache} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

func TestInstallRefusesBadDownloads(t *testing.T) {
	w, data := fakeWheel(t)
	flipped := bytes.Clone(data)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"wrong hash": {func(rw http.ResponseWriter, _ *http.Request) { rw.Write(flipped) }, "pinned is " + w.SHA256},
		"too short": {
			func(rw http.ResponseWriter, _ *http.Request) { rw.Write(data[:100]) }, "has 100 bytes, pinned are",
		},
		"too short, length not told": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.(http.Flusher).Flush()
			rw.Write(data[:len(data)-1])
		}, fmt.Sprintf("ends after %d of the pinned %d bytes", len(data)-1, len(data))},
		"too long, length not told": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.(http.Flusher).Flush()
			rw.Write(append(bytes.Clone(data), 0))
		}, "more than the pinned"},
		"not found": {http.NotFound, "404 Not Found"},
		"interrupted": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(len(data)))
			rw.Write(data[:len(data)/2])
			rw.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "the connection broke off"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, &w, c.handler)
			cache := t.TempDir()
			_, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache})
			if err == nil {
				t.Fatal("installed")
			}
			for _, want := range []string{
				c.want, w.URL, w.SHA256, filepath.Join(cache, "plugins"), "LIMNER_PLUGIN=/path/fake.so",
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			wantNothing(t, cache)

			serve(t, &w, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(data) })
			path, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache})
			if err != nil {
				t.Fatalf("the next try: %v", err)
			}
			wantInstalled(t, cache, path)
		})
	}
}

func TestInstallOffline(t *testing.T) {
	w, _ := fakeWheel(t)
	server := httptest.NewServer(http.NotFoundHandler())
	w.URL = server.URL + "/fake-1.2.whl"
	server.Close()
	cache := t.TempDir()
	_, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache})
	if err == nil {
		t.Fatal("installed without a server")
	}
	for _, want := range []string{
		w.URL, "connection refused", w.SHA256, filepath.Join(cache, "plugins"), "LIMNER_PLUGIN=/path/fake.so",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), w.URL) != 1 {
		t.Errorf("want one sentence that names the URL once: %v", err)
	}
	wantNothing(t, cache)
}

func TestInstallTakesAWheelPutByHand(t *testing.T) {
	w, data := fakeWheel(t)
	w.URL = "http://127.0.0.1:1/fake-1.2.whl"
	for name, c := range map[string]struct {
		data []byte
		want string // in the error; empty: it installs
	}{
		"good":      {data, ""},
		"truncated": {data[:len(data)/2], "ends after"},
		"other":     {append(bytes.Repeat([]byte{7}, len(data)-1), 8), "pinned is " + w.SHA256},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			byHand := filepath.Join(cache, "plugins", "fake-1.2.whl")
			if err := os.MkdirAll(filepath.Dir(byHand), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(byHand, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			path, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantInstalled(t, cache, path)
			} else if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), byHand) {
				t.Errorf("error %v, want %q and %s in it", err, c.want, byHand)
			}
			if _, err := os.Stat(byHand); err != nil {
				t.Errorf("the user's file is gone: %v", err)
			}
		})
	}
}

func TestInstallOnceForManyAtATime(t *testing.T) {
	w, data := fakeWheel(t)
	var requests atomic.Int32
	serve(t, &w, func(rw http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		time.Sleep(200 * time.Millisecond)
		rw.Write(data)
	})
	cache := t.TempDir()
	const n = 6
	logs := make([]bytes.Buffer, n)
	paths := make([]string, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			paths[i], errs[i] = installWheel(t.Context(), w, InstallOptions{CacheDir: cache, Progress: &logs[i]})
		})
	}
	wg.Wait()
	waited := 0
	for i := range n {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		wantInstalled(t, cache, paths[i])
		if strings.Contains(logs[i].String(), "another process is installing fake-1.2") {
			waited++
		}
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("%d downloads, want 1", got)
	}
	if waited == 0 {
		t.Error("nobody said that it waited")
	}
}

func TestInstallCancelled(t *testing.T) {
	w, data := fakeWheel(t)
	started := make(chan struct{}, 1)
	release := make(chan struct{})
	serve(t, &w, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", fmt.Sprint(len(data)))
		rw.Write(data[:1000])
		rw.(http.Flusher).Flush()
		started <- struct{}{}
		<-release
	})
	defer close(release)
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiterErr, err error
	var wg sync.WaitGroup
	wg.Go(func() { _, err = installWheel(ctx, w, InstallOptions{CacheDir: cache}) })
	<-started
	waiterCtx, cancelWaiter := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelWaiter()
	_, waiterErr = installWheel(waiterCtx, w, InstallOptions{CacheDir: cache})
	cancel()
	wg.Wait()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the download's error: %v, want %v", err, context.Canceled)
	}
	if !errors.Is(waiterErr, context.DeadlineExceeded) {
		t.Errorf("the waiter's error: %v, want %v", waiterErr, context.DeadlineExceeded)
	}
	wantNothing(t, cache)
}

func TestInstallRepairs(t *testing.T) {
	w, data := fakeWheel(t)
	serve(t, &w, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(data) })
	for name, damage := range map[string]func(cache, dir string) error{
		"no mark": func(_, dir string) error { return os.Remove(filepath.Join(dir, "installed.json")) },
		"mark of nothing": func(_, dir string) error {
			return os.WriteFile(filepath.Join(dir, "installed.json"), []byte("{"), 0o644)
		},
		"plugin gone":      func(_, dir string) error { return os.Remove(filepath.Join(dir, "fake.so")) },
		"plugin truncated": func(_, dir string) error { return os.Truncate(filepath.Join(dir, "fake.so"), 10) },
		"a flipped bit":    func(_, dir string) error { return flipBit(filepath.Join(dir, "fake.so")) },
		"a flipped bit, and the time set back": func(_, dir string) error {
			path := filepath.Join(dir, "fake.so")
			info, err := os.Stat(path)
			return errors.Join(err, flipBit(path), os.Chtimes(path, info.ModTime(), info.ModTime()))
		},
		"another file of the same size": func(_, dir string) error {
			return replaceFile(filepath.Join(dir, "fake.so"), bytes.Repeat([]byte{'x'}, len(fakePlugin)))
		},
		"another file, and its mark": func(_, dir string) error {
			other := bytes.Repeat([]byte{'x'}, len(fakePlugin))
			mark, err := os.ReadFile(filepath.Join(dir, "installed.json"))
			return errors.Join(err, replaceFile(filepath.Join(dir, "fake.so"), other),
				os.WriteFile(filepath.Join(dir, "installed.json"),
					bytes.ReplaceAll(mark, []byte(sum(fakePlugin)), []byte(sum(other))), 0o644))
		},
		"a flipped bit, and a stamp that others can write": func(_, dir string) error {
			path := filepath.Join(dir, "fake.so")
			err := flipBit(path)
			info, statErr := os.Stat(path)
			s := stampOf(path, info)
			s.SHA256 = sum(fakePlugin)
			raw, _ := json.Marshal(s)
			return errors.Join(err, statErr, os.WriteFile(stampBeside(path), raw, 0o600),
				os.Chmod(stampBeside(path), 0o666))
		},
		"a killed install": func(cache, dir string) error {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			return os.MkdirAll(filepath.Join(cache, "plugins", ".fake-1.2.new-123", "x"), 0o755)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			path, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache})
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(cache, filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			if path, err = installWheel(t.Context(), w, InstallOptions{CacheDir: cache}); err != nil {
				t.Fatal(err)
			}
			wantInstalled(t, cache, path)
			wantFiles(t, filepath.Join(cache, "plugins"), ".fake-1.2.lock", "fake-1.2")
		})
	}
}

// flipBit changes one bit in the middle of a file.
func flipBit(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	return os.WriteFile(path, data, 0o644)
}

// replaceFile puts another file in a file's place.
func replaceFile(path string, data []byte) error {
	return errors.Join(os.WriteFile(path+".new", data, 0o644), os.Rename(path+".new", path))
}

// A repair of a plugin that has other bytes than it must have is said.
func TestInstallSaysWhatWasDamaged(t *testing.T) {
	w, data := fakeWheel(t)
	serve(t, &w, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(data) })
	cache := t.TempDir()
	path, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache})
	if err == nil {
		err = flipBit(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if _, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache, Progress: &log}); err != nil {
		t.Fatal(err)
	}
	if want := path + " is damaged or was replaced (sha256 "; !strings.Contains(log.String(), want) ||
		!strings.Contains(log.String(), "want "+w.PluginSHA256) {
		t.Errorf("said %q, want %q", log.String(), want)
	}
}

func TestInstallRefusesAnotherMember(t *testing.T) {
	w, data := fakeWheel(t)
	serve(t, &w, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(data) })
	w.PluginSHA256 = sum(nil)
	cache := t.TempDir()
	if _, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache}); err == nil ||
		!strings.Contains(err.Error(), "pinned is "+w.PluginSHA256) {
		t.Errorf("got %v, want an error with the pinned hash", err)
	}
	wantNothing(t, cache)
}

func TestInstallWithoutTheMember(t *testing.T) {
	w, data := fakeWheel(t)
	w.Member = "fake/lib/missing.so"
	serve(t, &w, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(data) })
	cache := t.TempDir()
	if _, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache}); err == nil ||
		!strings.Contains(err.Error(), w.Member) {
		t.Errorf("error %v, want it to name %s", err, w.Member)
	}
	wantNothing(t, cache)
}

func TestInstallNeedsSpace(t *testing.T) {
	if _, _, err := disk.Space(t.TempDir()); err != nil {
		t.Skip(err)
	}
	w, _ := fakeWheel(t)
	w.Unpacked = 1 << 60
	cache := t.TempDir()
	_, err := installWheel(t.Context(), w, InstallOptions{CacheDir: cache})
	if err == nil || !strings.Contains(err.Error(), "no space left on device") ||
		!strings.Contains(err.Error(), "LIMNER_CACHE") {
		t.Errorf("error %v, want the space and what to do", err)
	}
	wantNothing(t, cache)
}

func TestPluginByPath(t *testing.T) {
	dir := t.TempDir()
	so := filepath.Join(dir, "x.so")
	if err := os.WriteFile(so, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	variable := func(value string) func(string) string {
		return func(key string) string {
			if key == "LIMNER_PLUGIN" {
				return value
			}
			return ""
		}
	}
	for name, c := range map[string]struct {
		backend string
		getenv  func(string) string
		want    string // in the error; empty: so's path
	}{
		"path":                   {so, none, ""},
		"path before variable":   {so, variable("/nowhere/y.so"), ""},
		"path that is not there": {filepath.Join(dir, "y.so"), none, "no such file"},
		"path of a folder":       {dir, none, "not a regular file"},
		"file in no folder":      {"nowhere.so", none, "no such file"},
		"variable":               {"cpu", variable(so), ""},
		"variable, tpu":          {"tpu", variable(so), ""},
		"variable, default":      {"", variable(so), ""},
		"wrong variable":         {"cpu", variable(dir + "/y.so"), "LIMNER_PLUGIN"},
		"unknown":                {"gpu", variable(so), `unknown backend "gpu"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find(t.Context(), c.backend, InstallOptions{CacheDir: t.TempDir(), Getenv: c.getenv})
			if c.want == "" && (err != nil || got != so) {
				t.Errorf("got %q, %v, want %s", got, err, so)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %q, %v, want an error with %q", got, err, c.want)
			}
		})
	}
}

func TestCacheDir(t *testing.T) {
	dir := t.TempDir()
	got, err := CacheDir(func(key string) string { return map[string]string{"LIMNER_CACHE": dir}[key] })
	if err != nil || got != dir {
		t.Errorf("got %q, %v, want %s", got, err, dir)
	}
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "x"))
	if got, err = CacheDir(func(string) string { return "" }); err != nil || filepath.Base(got) != "limner" ||
		!strings.HasPrefix(got, dir) {
		t.Errorf("got %q, %v, want …/limner under %s", got, err, dir)
	}
}

func TestHasTPU(t *testing.T) {
	dev := t.TempDir()
	if HasTPU(dev) {
		t.Error("a TPU in an empty folder")
	}
	if err := os.WriteFile(filepath.Join(dev, "accel0"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !HasTPU(dev) {
		t.Error("accel0 not seen")
	}
}

func TestSetPluginEnv(t *testing.T) {
	keys := []string{
		"TF_CPP_MIN_LOG_LEVEL", "TPU_SKIP_MDS_QUERY", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES",
		"ALLOW_MULTIPLE_LIBTPU_LOAD",
	}
	for plugin, want := range map[string]string{
		"/a/xla_cpu_pjrt.so":               "[1    ]",
		"/cuda13-pjrt/xla_cuda_plugin.so":  "[1    ]",
		"/libtpu-0.0.52/libtpu.so":         "[1 1 user's localhost 1]",
		"/tpu-is-only-the-folder/other.so": "[1    ]",
	} {
		for _, key := range keys {
			t.Setenv(key, "") // restores it at the end
			if err := os.Unsetenv(key); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(plugin, "libtpu") {
			if HasTPU("/dev") {
				continue
			}
			t.Setenv("TPU_ACCELERATOR_TYPE", "user's")
		}
		if err := SetEnv(plugin); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, key := range keys {
			got = append(got, os.Getenv(key))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", plugin, got, want)
		}
	}
}
