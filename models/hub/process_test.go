package hub

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain is also the program of the processes that TestProcesses starts.
func TestMain(m *testing.M) {
	if endpoint := os.Getenv("HUB_TEST_ENDPOINT"); endpoint != "" {
		os.Exit(fetchForTest(endpoint, os.Getenv("HUB_TEST_CACHE")))
	}
	os.Exit(m.Run())
}

func fetchForTest(endpoint, cache string) int {
	o := DefaultOptions()
	o.Endpoint, o.Cache, o.RetryDelay = endpoint, cache, time.Millisecond
	o.Log = func(line string) { println(line) }
	c, err := New(o)
	if err == nil {
		_, err = c.Fetch(context.Background(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
	}
	if err != nil {
		println(err.Error())
		return 1
	}
	return 0
}

// TestProcesses kills a process in the middle of a file for which others wait. One of them goes on
// where it stopped, and the rest find the file.
func TestProcesses(t *testing.T) {
	const big, sent = "unet/diffusion_pytorch_model.safetensors", 150_000
	repo := &fakeRepo{files: pipelineFiles()}
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	reached := make(chan struct{})
	var mu sync.Mutex
	var ranges []string
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		if f.name != big {
			return false
		}
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		mu.Unlock()
		if n > 0 {
			return false
		}
		answer(w, http.StatusOK, http.Header{"Content-Length": {strconv.Itoa(len(f.data))}}, f.data[:sent])
		close(reached)
		<-r.Context().Done()
		return true
	})
	o := hub.options(t)
	start := func(stderr *strings.Builder) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "HUB_TEST_ENDPOINT="+o.Endpoint, "HUB_TEST_CACHE="+o.Cache)
		cmd.Stderr = stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var killedLog strings.Builder
	killed := start(&killedLog)
	<-reached
	blob := newClient(t, o).repo(Ref{Repo: "org/name"}).blob(fakeFile{big, repo.files[big]}.etag())
	for sizeOf(blob+".incomplete") < sent {
		time.Sleep(5 * time.Millisecond)
	}
	waiting := make([]*exec.Cmd, 3)
	logs := make([]strings.Builder, len(waiting))
	for i := range waiting {
		waiting[i] = start(&logs[i])
	}
	time.Sleep(300 * time.Millisecond) // until they wait
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := killed.Wait(); !errors.As(err, &exit) {
		t.Errorf("killed: %v", err)
	}
	for i, cmd := range waiting {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, logs[i].String())
		}
	}
	if len(ranges) != 2 || ranges[1] != "bytes="+strconv.Itoa(sent)+"-" {
		t.Errorf("the large file was asked for %q", ranges)
	}
	if corrupt, whole := corruptBlobs(t, o.Cache); len(corrupt) > 0 || whole != len(pipelineWanted) {
		t.Errorf("%d blobs, corrupt %v", whole, corrupt)
	}
}
