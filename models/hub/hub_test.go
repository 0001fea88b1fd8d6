package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"limner/internal/disk"
)

func TestFetch(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	o := hub.options(t)
	var done, total int64
	o.Progress = func(d, all int64, _ string) { done, total = d, all }
	c := newClient(t, o)
	ref, err := ParseRef("org/name")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Fetch(t.Context(), ref, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, s, repo)
	if diff := cmp.Diff(pipelineWanted, slices.Sorted(slices.Values(s.Files))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if want := filepath.Join(o.Cache, "models--org--name", "snapshots", testCommit); s.Dir != want || s.Path != want ||
		s.Commit != testCommit {
		t.Errorf("got %+v, want the folder %s", s, want)
	}
	if done != total || total < 400_000 {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	// The layout is Python's.
	unet := fakeFile{"unet/diffusion_pytorch_model.safetensors", repo.files["unet/diffusion_pytorch_model.safetensors"]}
	if got, err := os.Readlink(filepath.Join(s.Dir, unet.name)); err != nil || got != "../../../blobs/"+unet.sha256() {
		t.Errorf("link %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(o.Cache, "models--org--name", "refs", "main")); err != nil ||
		string(got) != testCommit {
		t.Errorf("refs/main %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(o.Cache, ".locks", "models--org--name", unet.sha256()+".lock")); err != nil {
		t.Error(err)
	}
	// A second fetch asks for the list alone; offline nothing is asked.
	before := hub.count("GET", "")
	if again, err := c.Fetch(t.Context(), ref, Selection{}); err != nil || again.Dir != s.Dir {
		t.Errorf("again: %v, %v", again, err)
	}
	if n := hub.count("GET", "") - before; n != 1 {
		t.Errorf("a second fetch made %d requests, want 1", n)
	}
	before = hub.count("", "")
	o.Offline = true
	if again, err := newClient(t, o).Fetch(t.Context(), ref, Selection{}); err != nil ||
		!slices.Equal(again.Files, s.Files) {
		t.Errorf("offline: %v, %v", again, err)
	}
	if n := hub.count("", "") - before; n != 0 {
		t.Errorf("offline made %d requests", n)
	}
}

func TestFetchParts(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	for arg, want := range map[string]string{
		"org/name/v1-5-pruned.safetensors": "v1-5-pruned.safetensors",
		"org/name/unet":                    "unet",
		"org/name/unet@refs/pr/1":          "unet",
		"org/name@" + testCommit:           "",
	} {
		t.Run(arg, func(t *testing.T) {
			ref, err := ParseRef(arg)
			if err != nil {
				t.Fatal(err)
			}
			o := hub.options(t)
			s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
			if err != nil {
				t.Fatal(err)
			}
			checkFiles(t, s, repo)
			if got := filepath.Join(s.Dir, want); s.Path != got {
				t.Errorf("path %s, want %s", s.Path, got)
			}
			o.Offline = true
			if off, err := newClient(t, o).Fetch(t.Context(), ref, Selection{}); err != nil || off.Path != s.Path {
				t.Errorf("offline: %v, %v", off, err)
			}
		})
	}
}

// TestFetchBareList reads sizes and hashes from headers, where a mirror's list lacks them.
func TestFetchBareList(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles(), bare: true}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	o := hub.options(t)
	s, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, s, repo)
	if corrupt, whole := corruptBlobs(t, o.Cache); len(corrupt) > 0 || whole != len(pipelineWanted) {
		t.Errorf("%d blobs, corrupt: %v", whole, corrupt)
	}
}

// TestToken looks for the token wherever it should not be.
func TestToken(t *testing.T) {
	files := pipelineFiles()
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": {files: files, private: true, gated: true}})
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		if n > 0 {
			return false
		}
		// A server that repeats the token.
		w.Header().Set("X-Error-Message", "no "+testToken)
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	o := hub.options(t)
	var log strings.Builder
	o.Log = func(line string) { log.WriteString(line + "\n") }
	o.Token, _ = NewToken(testToken + "\n")
	o.MaxRetryDelay = 10 * time.Millisecond
	ref := Ref{Repo: "org/name", Revision: "main"}
	c := newClient(t, o)
	s, err := c.Fetch(t.Context(), ref, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, s, hub.repos["org/name"])
	if len(hub.leaked) > 0 {
		t.Errorf("the second host got the token in %v", hub.leaked)
	}
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		w.Header().Set("X-Error-Message", "Bearer "+testToken)
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	o.Cache = t.TempDir()
	_, err = newClient(t, o).Fetch(t.Context(), ref, Selection{})
	if err == nil {
		t.Fatal("403 passed")
	}
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		w.Header().Set("Content-Encoding", testToken)
		return false
	})
	_, quoted := newClient(t, o).Fetch(t.Context(), ref, Selection{})
	if quoted == nil || !strings.Contains(quoted.Error(), redacted) {
		t.Errorf("an odd encoding: %v", quoted)
	}
	c.logf("the token is %s", testToken)
	for name, text := range map[string]string{
		"error": err.Error(), "quoting error": quoted.Error(), "error tree": fmt.Sprintf("%+v %#v", err, err),
		"log": log.String(), "options": fmt.Sprintf("%v %+v %#v", o, o, o),
		"client": fmt.Sprintf("%v %+v %#v", c, c, c),
	} {
		if strings.Contains(text, testToken) {
			t.Errorf("%s shows the token: %s", name, text)
		}
	}
}

// TestTokenStaysWithOrigin covers redirects that net/http itself would send the header along.
func TestTokenStaysWithOrigin(t *testing.T) {
	got := make(chan string, 10)
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNotFound)
	}))
	defer second.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		http.Redirect(w, r, second.URL+r.URL.Path, http.StatusTemporaryRedirect) // the same host, another port
	}))
	defer first.Close()
	o := DefaultOptions()
	o.Endpoint, o.Cache, o.RetryDelay, o.Attempts = first.URL, t.TempDir(), time.Millisecond, 1
	o.Token, _ = NewToken(testToken)
	if _, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{}); err == nil {
		t.Error("404 passed")
	}
	if a, b := <-got, <-got; a != "Bearer "+testToken || b != "" {
		t.Errorf("the first host got %q, the second %q", a, b)
	}
}

func TestRefusals(t *testing.T) {
	hub := newFakeHub(t, map[string]*fakeRepo{
		"org/gated":    {files: pipelineFiles(), gated: true},
		"org/name":     {files: pipelineFiles()},
		"org/private":  {files: pipelineFiles(), private: true},
		"org/pickled":  {files: map[string][]byte{"a.ckpt": []byte("x")}},
		"org/escape":   {files: pipelineFiles(), extraNames: []string{"../../../evil"}},
		"org/absolute": {files: pipelineFiles(), extraNames: []string{"/etc/passwd"}},
		"org/windows":  {files: pipelineFiles(), extraNames: []string{`..\evil`}},
	})
	good, _ := NewToken(testToken)
	bad, _ := NewToken("hf_other")
	for name, c := range map[string]struct {
		ref   string
		token Token
		want  []string // parts of the error; none for success
	}{
		"gated": {
			"org/gated", Token{}, []string{"accept the conditions at", "/org/gated", "set HF_TOKEN"},
		},
		"gated, wrong token": {
			"org/gated", bad, []string{"accept the conditions at", "/org/gated", "with the account"},
		},
		"gated, token": {"org/gated", good, nil},
		"private": {
			"org/private", Token{}, []string{"no public model org/private", "spelling", "set HF_TOKEN"},
		},
		"private, bad token": {"org/private", bad, []string{"no model org/private", "the token in use", "spelling"}},
		"private, token":     {"org/private", good, nil},
		"misspelt":           {"org/nmae", Token{}, []string{"no public model org/nmae"}},
		"revision":           {"org/name@nowhere", Token{}, []string{`org/name has no revision "nowhere"`}},
		"file":               {"org/name/nothing.safetensors", Token{}, []string{"nothing.safetensors"}},
		"pickled file":       {"org/name/v1-5-pruned.ckpt", Token{}, []string{"v1-5-pruned.ckpt is pickled"}},
		"pickled repo": {
			"org/pickled", Token{}, []string{"a.ckpt", "save_pretrained(OUT, safe_serialization=True)"},
		},
		"escape":   {"org/escape", Token{}, []string{`"../../../evil" is outside the repo`}},
		"absolute": {"org/absolute", Token{}, []string{`"/etc/passwd" is outside the repo`}},
		"windows":  {"org/windows", Token{}, []string{"outside the repo"}},
	} {
		t.Run(name, func(t *testing.T) {
			ref, err := ParseRef(c.ref)
			if err != nil {
				t.Fatal(err)
			}
			o := hub.options(t)
			o.Token = c.token
			_, err = newClient(t, o).Fetch(t.Context(), ref, Selection{})
			if (err == nil) != (c.want == nil) {
				t.Fatal(err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v\nwant %q", err, part)
				}
			}
			if c.want != nil {
				if _, err := os.Stat(filepath.Join(o.Cache, "models--"+strings.ReplaceAll(ref.Repo, "/", "--"),
					"refs")); err == nil {
					t.Error("a refused fetch left a ref")
				}
			}
		})
	}
}

func TestNoNetwork(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	o := hub.options(t)
	var lines []string
	o.Log = func(line string) { lines = append(lines, line) }
	ref := Ref{Repo: "org/name", Revision: "main"}
	if _, err := newClient(t, o).Fetch(t.Context(), ref, Selection{}); err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	o.Endpoint = "http://" + closed.Addr().String()
	s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, s, repo)
	if len(lines) != 1 || !strings.Contains(lines[0], "from the cache") {
		t.Errorf("lines %q", lines)
	}
	o.Cache = t.TempDir()
	_, err = newClient(t, o).Fetch(t.Context(), ref, Selection{})
	if err == nil || !strings.Contains(err.Error(), "connection refused") ||
		!strings.Contains(err.Error(), "HF_ENDPOINT") ||
		!strings.Contains(err.Error(), "not in the cache") {
		t.Errorf("without a cache: %v", err)
	}
	// A Hub that is down is as good as none.
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }))
	defer down.Close()
	o.Endpoint, o.Cache = down.URL, filepath.Dir(filepath.Dir(filepath.Dir(s.Dir)))
	if _, err := newClient(t, o).Fetch(t.Context(), ref, Selection{}); err != nil {
		t.Error(err)
	}
}

// TestInterrupted stops a fetch in the middle of the largest file, and goes on later.
func TestInterrupted(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	const big = "unet/diffusion_pytorch_model.safetensors"
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped by the user")
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		if f.name != big {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(f.data)))
		_, _ = w.Write(f.data[:150_000])
		_ = http.NewResponseController(w).Flush()
		time.Sleep(50 * time.Millisecond) // until the client has it
		cancel(stopped)
		<-r.Context().Done()
		return true
	})
	o := hub.options(t)
	ref := Ref{Repo: "org/name", Revision: "main"}
	if _, err := newClient(t, o).Fetch(ctx, ref, Selection{}); !errors.Is(err, stopped) {
		t.Fatalf("got %v, want %v", err, stopped)
	}
	half, err := filepath.Glob(filepath.Join(o.Cache, "models--org--name", "blobs", "*.incomplete"))
	if err != nil || !slices.ContainsFunc(half, func(p string) bool { return sizeOf(p) == 150_000 }) {
		t.Errorf("incomplete: %v, %v", half, err)
	}
	offline := o
	offline.Offline = true
	if _, err := newClient(t, offline).Fetch(t.Context(), ref, Selection{}); err == nil ||
		!strings.Contains(err.Error(), "not whole in the cache") {
		t.Errorf("half a model offline: %v", err)
	}
	var ranges []string
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		if f.name == big {
			ranges = append(ranges, r.Header.Get("Range"))
		}
		return false
	})
	s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, s, repo)
	if !slices.Equal(ranges, []string{"bytes=150000-"}) {
		t.Errorf("asked for %q", ranges)
	}
}

// TestDamagedPrefix takes up a prefix that is not one.
func TestDamagedPrefix(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	const big = "unet/diffusion_pytorch_model.safetensors"
	whole := repo.files[big]
	for name, prefix := range map[string][]byte{
		"other bytes":    make([]byte, 1000),
		"whole, flipped": append([]byte{whole[0] ^ 1}, whole[1:]...),
		"too long":       append(slices.Clone(whole), 1, 2, 3),
		"whole":          whole,
	} {
		t.Run(name, func(t *testing.T) {
			o := hub.options(t)
			blobs := filepath.Join(o.Cache, "models--org--name", "blobs")
			if err := os.MkdirAll(blobs, 0o755); err != nil {
				t.Fatal(err)
			}
			f := fakeFile{big, whole}
			if err := os.WriteFile(filepath.Join(blobs, f.etag()+".incomplete"), prefix, 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
			if err != nil {
				t.Fatal(err)
			}
			checkFiles(t, s, repo)
		})
	}
}

// TestOfflinePart removes files one at a time, as a fetch by other means may never have brought them.
func TestOfflinePart(t *testing.T) {
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": {files: pipelineFiles()}})
	o := hub.options(t)
	ref := Ref{Repo: "org/name", Revision: "main"}
	s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	o.Offline = true
	c := newClient(t, o)
	for _, name := range []string{
		"unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer/merges.txt",
		"scheduler/scheduler_config.json",
	} {
		path := filepath.Join(s.Dir, name)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Fetch(t.Context(), ref, Selection{}); err == nil ||
			!strings.Contains(err.Error(), name+" missing") ||
			!strings.Contains(err.Error(), "HF_HUB_OFFLINE") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	// A link to nothing is a missing file.
	blob, err := filepath.EvalSymlinks(filepath.Join(s.Dir, "vae/config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetch(t.Context(), ref, Selection{}); err == nil ||
		!strings.Contains(err.Error(), "vae/config.json missing") {
		t.Errorf("a dangling link: %v", err)
	}
	for arg, want := range map[string]string{
		"org/name@v2": "not whole in the cache", "org/other": "org/other is not in the cache",
		"org/name/lora.safetensors": "lora.safetensors missing",
	} {
		ref, err := ParseRef(arg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Fetch(t.Context(), ref, Selection{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

// TestTogether fetches with several clients at once, as several processes would: locks belong to
// open files, so clients of one process exclude each other too.
func TestTogether(t *testing.T) {
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		time.Sleep(20 * time.Millisecond)
		return false
	})
	o := hub.options(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			o := o
			var done, total int64
			o.Progress = func(d, all int64, _ string) { done, total = d, all }
			s, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
			if err != nil {
				t.Error(err)
				return
			}
			checkFiles(t, s, repo)
			if done != total {
				t.Errorf("progress ended at %d of %d", done, total)
			}
		})
	}
	wait.Wait()
	for name, n := range hub.served {
		if n != 1 {
			t.Errorf("%s was downloaded %d times", name, n)
		}
	}
}

// TestFullDisk is told of a file that no disk holds, before anything is downloaded.
func TestFullDisk(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			t.Errorf("asked for %s", r.URL.Path)
		}
		fmt.Fprintf(w, `{"sha": %q, "siblings": [{"rfilename": "lora.safetensors", "size": %d, "blobId": %[1]q}]}`,
			testCommit, int64(1)<<49)
	}))
	defer server.Close()
	o := DefaultOptions()
	o.Endpoint, o.Cache = server.URL, t.TempDir()
	if _, err := disk.Free(o.Cache); err != nil {
		t.Skip("the free space is not known here")
	}
	_, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
	if err == nil || !strings.Contains(err.Error(), "needs 562949953 MB") ||
		!strings.Contains(err.Error(), "HF_HUB_CACHE") {
		t.Errorf("got %v", err)
	}
}

// TestReadOnlyCache meets a cache that cannot be written.
func TestReadOnlyCache(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	hub := newFakeHub(t, map[string]*fakeRepo{
		"org/name": {files: pipelineFiles()}, "org/other": {files: pipelineFiles()},
	})
	o := hub.options(t)
	c := newClient(t, o)
	if _, err := c.Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{}); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(o.Cache, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		t.Cleanup(func() { _ = os.Chmod(path, 0o755) })
		return os.Chmod(path, 0o555)
	}); err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{"main", testCommit, "refs/pr/1"} { // the last cannot be noted
		if _, err := c.Fetch(t.Context(), Ref{Repo: "org/name", Revision: revision}, Selection{}); err != nil {
			t.Errorf("a whole model at %s: %v", revision, err)
		}
	}
	for ref, selection := range map[Ref]Selection{
		{Repo: "org/other", Revision: "main"}: {}, {Repo: "org/name", Revision: "main"}: {Variant: "fp16"},
	} {
		if _, err := c.Fetch(t.Context(), ref, selection); err == nil ||
			!strings.Contains(err.Error(), "HF_HUB_CACHE") {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
