package hub

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wrongHub answers every request in one way, and counts them.
func wrongHub(t *testing.T, serve http.HandlerFunc) (options Options, requests *atomic.Int32) {
	requests = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		serve(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	o := DefaultOptions()
	o.Endpoint, o.Cache, o.RetryDelay, o.StallTimeout = server.URL, t.TempDir(), time.Millisecond, 50*time.Millisecond
	return o, requests
}

// trickle writes a few bytes again and again, until the other side has enough.
func trickle(w http.ResponseWriter, r *http.Request, bytes int) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, bytes)); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(5 * time.Millisecond)
	}
}

// A server that never ends its answer does not hold a fetch, whether it sends slowly or for long.
func TestAnswersEnd(t *testing.T) {
	for name, c := range map[string]struct {
		bytes    int
		want     string
		requests int32
	}{
		"a byte now and then": {1, "less than 1024 bytes a second for 50ms", 2},
		"for too long":        {4096, "the answer takes too long: more than 500ms", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, requests := wrongHub(t, func(w http.ResponseWriter, r *http.Request) { trickle(w, r, c.bytes) })
			o.Attempts = 2
			_, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
			if err == nil || !strings.Contains(err.Error(), c.want) || requests.Load() != c.requests {
				t.Errorf("%d requests, %v: want %d and %q", requests.Load(), err, c.requests, c.want)
			}
		})
	}
}

// A file that comes a byte at a time is given up too.
func TestFilesDoNotCrawl(t *testing.T) {
	hub := newFakeHub(t, map[string]*fakeRepo{
		"org/name": {files: map[string][]byte{"lora.safetensors": make([]byte, 1<<20)}},
	})
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(f.data)))
		trickle(w, r, 1)
		return true
	})
	o := hub.options(t)
	o.Attempts, o.StallTimeout = 1, 50*time.Millisecond
	_, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
	if want := "less than 1024 bytes a second"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// Redirects that lead nowhere are final at once.
func TestRedirectsThatLeadNowhere(t *testing.T) {
	for to, want := range map[string]string{
		"file:///etc/passwd": `the server redirects to an address that begins with "file:", want https or http`,
		"ftp://host/x":       `begins with "ftp:"`,
		"":                   "the server redirects more than 10 times, or in a circle",
	} {
		t.Run(to, func(t *testing.T) {
			o, requests := wrongHub(t, func(w http.ResponseWriter, r *http.Request) {
				target := to
				if target == "" {
					target = r.URL.RequestURI()
				}
				w.Header().Set("Location", target)
				w.WriteHeader(http.StatusFound)
			})
			_, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
			if err == nil || !strings.Contains(err.Error(), want) || requests.Load() > maxRedirects {
				t.Errorf("%d requests, %v: want %q from the first try", requests.Load(), err, want)
			}
		})
	}
}

// A pipe or a device in the cache is neither waited for nor read.
func TestCacheHoldsRegularFiles(t *testing.T) {
	repo := &fakeRepo{files: map[string][]byte{"lora.safetensors": []byte("lora")}}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	o := hub.options(t)
	dir := filepath.Join(o.Cache, "models--org--name")
	left := filepath.Join(dir, "blobs", fakeFile{"lora.safetensors", []byte("lora")}.etag()+".incomplete")
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(left), 0o755), unix.Mkfifo(left, 0o600),
		os.MkdirAll(filepath.Join(dir, "refs"), 0o755), os.Symlink("/dev/zero", filepath.Join(dir, "refs", "main")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ref := Ref{Repo: "org/name", Revision: "main"}
	if _, err := newClient(t, o).Fetch(t.Context(), ref, Selection{}); err == nil ||
		!strings.Contains(err.Error(), left+": not a regular file") {
		t.Errorf("a pipe: got %v", err)
	}
	o.Offline = true
	if _, err := newClient(t, o).Fetch(t.Context(), ref, Selection{}); err == nil ||
		!strings.Contains(err.Error(), "a device") {
		t.Errorf("a device: got %v", err)
	}
}
