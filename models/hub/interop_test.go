//go:build interop

package hub

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// python runs a program of huggingface_hub in the interpreter that LIMNER_PYTHON names. Its input
// is sys.argv[1:], its output one JSON value.
func python(t *testing.T, env []string, into any, program string, args ...string) {
	t.Helper()
	interpreter := os.Getenv("LIMNER_PYTHON")
	if interpreter == "" {
		t.Fatal("set LIMNER_PYTHON to a Python that has huggingface_hub")
	}
	cmd := exec.CommandContext(t.Context(), interpreter,
		append([]string{"-c", "import json, os, sys\n" + program}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HF_HUB_DISABLE_TELEMETRY=1"}, env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("python wrote %q: %v", out, err)
	}
}

// TestPythonReadsOurs fills a cache, and has huggingface_hub find every file in it offline.
func TestPythonReadsOurs(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	o := hub.options(t)
	s, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	before := hub.count("", "")
	var got struct {
		Version, Snapshot string
		Files             map[string]string // by name
		Repos             []string
		Warnings          []string
	}
	python(t, []string{"HF_HUB_OFFLINE=1", "HF_ENDPOINT=" + hub.hub.URL, "HF_HUB_CACHE=" + o.Cache}, &got, `
import huggingface_hub as h
files = {name: h.hf_hub_download("org/name", name) for name in sys.argv[1:]}
scan = h.scan_cache_dir()
print(json.dumps({"Version": h.__version__, "Snapshot": h.snapshot_download("org/name"), "Files": files,
	"Repos": [r.repo_id for r in scan.repos], "Warnings": [str(w) for w in scan.warnings]}))`, s.Files...)
	if got.Snapshot != s.Dir {
		t.Errorf("snapshot_download found %s, want %s", got.Snapshot, s.Dir)
	}
	for _, name := range s.Files {
		if want := filepath.Join(s.Dir, name); got.Files[name] != want {
			t.Errorf("hf_hub_download found %s, want %s", got.Files[name], want)
		}
	}
	if !slices.Equal(got.Repos, []string{"org/name"}) || len(got.Warnings) > 0 {
		t.Errorf("scan_cache_dir found %q and warned of %q", got.Repos, got.Warnings)
	}
	if n := hub.count("", "") - before; n != 0 {
		t.Errorf("Python made %d requests offline", n)
	}
	t.Logf("huggingface_hub %s found %d files", got.Version, len(got.Files))

	// Online it finds them too, and downloads none again.
	served := len(hub.served)
	content := hub.count("GET", "/resolve/") + hub.countCDN()
	var path string
	python(t, []string{"HF_ENDPOINT=" + hub.hub.URL, "HF_HUB_CACHE=" + o.Cache, "HF_HUB_DISABLE_XET=1"}, &path, `
import huggingface_hub as h
print(json.dumps(h.snapshot_download("org/name", allow_patterns=sys.argv[1:])))`, s.Files...)
	if path != s.Dir || len(hub.served) != served || hub.count("GET", "/resolve/")+hub.countCDN() != content {
		t.Errorf("Python downloaded into %s again", path)
	}
}

// countCDN counts what was asked of the second host.
func (h *fakeHub) countCDN() int {
	return h.count("GET", "") - h.count("GET", "/api/") - h.count("GET", "/resolve/")
}

// TestWeReadPythons has huggingface_hub fill a cache, and finds every file in it offline; online,
// nothing that is there is downloaded again.
func TestWeReadPythons(t *testing.T) {
	for name, program := range map[string]string{
		"snapshot_download": `
import huggingface_hub as h
print(json.dumps(h.snapshot_download("org/name", allow_patterns=sys.argv[1:])))`,
		"hf_hub_download": `
import huggingface_hub as h
for name in sys.argv[1:]:
	path = h.hf_hub_download("org/name", name)
print(json.dumps(path.split(sys.argv[-1])[0].rstrip("/")))`,
	} {
		t.Run(name, func(t *testing.T) {
			repo := &fakeRepo{files: pipelineFiles()}
			hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
			o := hub.options(t)
			ref := Ref{Repo: "org/name", Revision: "main"}
			env := []string{
				"HF_ENDPOINT=" + hub.hub.URL, "HF_HUB_CACHE=" + o.Cache, "HF_HUB_DISABLE_XET=1",
				"HF_TOKEN=" + testToken,
			}
			part := slices.DeleteFunc(slices.Clone(pipelineWanted), func(n string) bool {
				return strings.HasPrefix(n, "vae/")
			})

			// Half of it first: offline that is an error, online the rest alone is downloaded.
			var path string
			python(t, env, &path, program, part...)
			offline := o
			offline.Offline = true
			_, err := newClient(t, offline).Fetch(t.Context(), ref, Selection{})
			if err == nil ||
				!strings.Contains(err.Error(), "vae/config.json, vae/diffusion_pytorch_model.safetensors missing") {
				t.Errorf("half a model: %v", err)
			}
			s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
			if err != nil {
				t.Fatal(err)
			}
			checkFiles(t, s, repo)
			for name, n := range hub.served {
				// Python asks for the headers of small files first.
				if n != 1 && !strings.Contains(name, ".json") && !strings.HasSuffix(name, ".txt") {
					t.Errorf("%s was asked for %d times", name, n)
				}
			}
			for _, name := range part {
				if n := hub.count("GET", "/resolve/"+testCommit+"/"+name); n > 1 {
					t.Errorf("%s was downloaded %d times", name, n)
				}
			}

			// All of it in a second cache.
			o.Cache = t.TempDir()
			offline.Cache = o.Cache
			env[1] = "HF_HUB_CACHE=" + o.Cache
			python(t, env, &path, program, pipelineWanted...)
			requests := hub.count("", "")
			s, err = newClient(t, offline).Fetch(t.Context(), ref, Selection{})
			if err != nil {
				t.Fatal(err)
			}
			checkFiles(t, s, repo)
			if s.Dir != path || hub.count("", "") != requests {
				t.Errorf("found %s, want %s; %d requests", s.Dir, path, hub.count("", "")-requests)
			}
			if len(s.Files) != len(pipelineWanted) {
				t.Errorf("found %d files of %d", len(s.Files), len(pipelineWanted))
			}
			if s, err = newClient(t, o).Fetch(t.Context(), ref, Selection{}); err != nil || s.Dir != path {
				t.Errorf("online: %s, %v", s.Dir, err)
			}
			if n := hub.count("", "") - requests; n != 1 { // the list
				t.Errorf("a whole cache needed %d requests, want 1", n)
			}
			if len(hub.leaked) > 0 {
				t.Errorf("the token came to the second host in %v", hub.leaked)
			}
			t.Logf("found %d files", len(s.Files))
		})
	}
}

// TestPythonWaitsForUs holds a blob's lock, as while it is downloaded, and sees that huggingface_hub waits.
func TestPythonWaitsForUs(t *testing.T) {
	repo := &fakeRepo{files: map[string][]byte{"lora.safetensors": []byte("weights")}}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	o := hub.options(t)
	ref := Ref{Repo: "org/name", Revision: "main"}
	cache := newClient(t, o).repo(ref)
	f := fakeFile{"lora.safetensors", repo.files["lora.safetensors"]}
	unlock, err := cache.lock(t.Context(), f.etag(), func() { t.Error("nobody holds the lock") })
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan time.Time, 1)
	go func() {
		for hub.count("HEAD", "/resolve/") == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		released <- time.Now()
		unlock()
	}()
	var done float64
	python(t, []string{"HF_ENDPOINT=" + hub.hub.URL, "HF_HUB_CACHE=" + o.Cache, "HF_HUB_DISABLE_XET=1"}, &done, `
import huggingface_hub as h, time
h.hf_hub_download("org/name", "lora.safetensors")
print(json.dumps(time.time()))`)
	if at := <-released; done < float64(at.UnixNano())/1e9 {
		t.Error("Python did not wait for the lock")
	}
	if corrupt, whole := corruptBlobs(t, o.Cache); len(corrupt) > 0 || whole != 1 {
		t.Errorf("%d blobs, corrupt %v", whole, corrupt)
	}
}
