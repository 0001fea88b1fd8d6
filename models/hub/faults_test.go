package hub

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// fault answers in a way in which servers and lines fail.
type fault struct {
	name  string
	serve func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand)
}

// span finds what a request asks for, as Range or as a whole.
func span(r *http.Request, f fakeFile) (start int, header http.Header, status int) {
	header = http.Header{}
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err != nil || start >= len(f.data) {
		header.Set("Content-Length", strconv.Itoa(len(f.data)))
		return 0, header, http.StatusOK
	}
	header.Set("Content-Length", strconv.Itoa(len(f.data)-start))
	header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(f.data)-1, len(f.data)))
	return start, header, http.StatusPartialContent
}

// answer begins an answer with some headers changed, and sends the bytes.
func answer(w http.ResponseWriter, status int, header http.Header, data []byte) {
	for k, v := range header {
		w.Header()[k] = v
	}
	w.WriteHeader(status)
	_, _ = w.Write(data)
	_ = http.NewResponseController(w).Flush()
}

var faults = []fault{
	{"cut", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		answer(w, status, header, f.data[start:start+rng.IntN(len(f.data)-start)])
		panic(http.ErrAbortHandler)
	}},
	{"cut before the answer", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		panic(http.ErrAbortHandler)
	}},
	{"stall", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		answer(w, status, header, f.data[start:start+rng.IntN(len(f.data)-start)])
		<-r.Context().Done()
	}},
	{"stall before the answer", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		<-r.Context().Done()
	}},
	{"flipped byte", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		data := append([]byte{}, f.data[start:]...)
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		answer(w, status, header, data)
	}},
	{"flipped byte, then cut", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		data := append([]byte{}, f.data[start:start+1+rng.IntN(len(f.data)-start)]...)
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		answer(w, status, header, data)
		panic(http.ErrAbortHandler)
	}},
	{"shorter, and says so", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		n := rng.IntN(len(f.data) - start)
		header.Set("Content-Length", strconv.Itoa(n))
		answer(w, status, header, f.data[start:start+n])
	}},
	{"shorter, of unknown length", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		header.Del("Content-Length")
		answer(w, status, header, f.data[start:start+rng.IntN(len(f.data)-start)])
	}},
	{"longer, and says so", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		data := append(append([]byte{}, f.data[start:]...), make([]byte, 1+rng.IntN(100))...)
		header.Set("Content-Length", strconv.Itoa(len(data)))
		answer(w, status, header, data)
	}},
	{"longer, of unknown length", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		header.Del("Content-Length")
		answer(w, status, header, append(append([]byte{}, f.data[start:]...), make([]byte, 1+rng.IntN(100))...))
	}},
	{"other file of the same length", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		answer(w, status, header, make([]byte, len(f.data)-start))
	}},
	{"range ignored", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		answer(w, http.StatusOK, nil, f.data)
	}},
	{"range ignored, then cut", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		answer(w, http.StatusOK, http.Header{"Content-Length": {strconv.Itoa(len(f.data))}},
			f.data[:rng.IntN(len(f.data))])
		panic(http.ErrAbortHandler)
	}},
	{"another range", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start := rng.IntN(len(f.data))
		answer(w, http.StatusPartialContent, http.Header{
			"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", start, len(f.data)-1, len(f.data))},
		}, f.data[start:])
	}},
	{"range without a header", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		answer(w, http.StatusPartialContent, nil, f.data[rng.IntN(len(f.data)):])
	}},
	{"range of another length", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, _, _ := span(r, f)
		answer(w, http.StatusPartialContent, http.Header{
			"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", start, len(f.data), len(f.data)+1)},
		}, f.data[start:])
	}},
	{"no such range", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	}},
	{"encoded", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		header.Set("Content-Encoding", "gzip")
		answer(w, status, header, f.data[start:])
	}},
	{"a page", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		answer(w, http.StatusOK, nil, []byte("<html>please log in to this network</html>"))
	}},
	{"rate limit in seconds", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}},
	{"rate limit until a date", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		w.Header().Set("Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusServiceUnavailable)
	}},
	{"rate limit, the Hub's", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		w.Header().Set("RateLimit", `"resolvers";r=0;t=55`)
		w.WriteHeader(http.StatusTooManyRequests)
	}},
	{"server error", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		w.WriteHeader([]int{500, 502, 503, 504}[rng.IntN(4)])
	}},
	{"slow", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		start, header, status := span(r, f)
		part := 1 + (len(f.data)-start)/3
		answer(w, status, header, f.data[start:start+min(part, len(f.data)-start)])
		for at := start + part; at < len(f.data); at += part {
			time.Sleep(10 * time.Millisecond)
			_, _ = w.Write(f.data[at:min(at+part, len(f.data))])
			_ = http.NewResponseController(w).Flush()
		}
	}},
	{"redirected on", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}},
	{"redirected to nowhere", func(w http.ResponseWriter, r *http.Request, f fakeFile, rng *rand.Rand) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	}},
}

// faultServer answers most requests for content with a fault drawn from (seed, file, number of the
// request), so that a run can be repeated. It counts them.
type faultServer struct {
	mu    sync.Mutex
	seed  uint64
	count map[string]int
	share float64
}

func (s *faultServer) serve(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
	h := fnv.New64a()
	fmt.Fprint(h, f.name, n)
	rng := rand.New(rand.NewPCG(s.seed, h.Sum64()))
	if rng.Float64() >= s.share {
		return false
	}
	fault := faults[rng.IntN(len(faults))]
	s.mu.Lock()
	s.count[fault.name]++
	s.mu.Unlock()
	fault.serve(w, r, f, rng)
	return true
}

// TestFaultyDownloads fetches models over bad lines. Whatever happens, no blob may be other than its
// name says, and a fetch that returns no error has every byte right.
func TestFaultyDownloads(t *testing.T) {
	const fetches = 60 // of four files each
	var mu sync.Mutex
	counts := map[string]int{}
	faulty, clean, gaveUp, blobs := 0, 0, 0, 0
	t.Run("fetches", func(t *testing.T) {
		for seed := range uint64(fetches) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(seed, 1))
				random := func(n int) []byte {
					b := make([]byte, n)
					for i := range b {
						b[i] = byte(rng.Uint32())
					}
					return b
				}
				repo := &fakeRepo{files: map[string][]byte{
					"unet/config.json": random(1 + rng.IntN(2000)),
					"unet/diffusion_pytorch_model-00001-of-00002.safetensors": random(1 + rng.IntN(600_000)),
					"unet/diffusion_pytorch_model-00002-of-00002.safetensors": random(1 + rng.IntN(30_000)),
					"unet/diffusion_pytorch_model.safetensors.index.json":     random(1 + rng.IntN(20_000)),
				}}
				hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
				server := &faultServer{seed: seed, count: map[string]int{}, share: 0.75}
				hub.setFault(server.serve)
				o := hub.options(t)
				o.Attempts, o.StallTimeout = 4, 100*time.Millisecond
				ref := Ref{Repo: "org/name", Revision: "main", Path: "unet"}
				var s Snapshot
				var err error
				failed := 0
				for range 20 { // as a user would run it again
					if s, err = newClient(t, o).Fetch(t.Context(), ref, Selection{}); err == nil {
						break
					}
					failed++
					if corrupt, _ := corruptBlobs(t, o.Cache); len(corrupt) > 0 {
						t.Fatalf("after %v: corrupt %v", err, corrupt)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				checkFiles(t, s, repo)
				corrupt, whole := corruptBlobs(t, o.Cache)
				if len(corrupt) > 0 || whole != len(repo.files) {
					t.Errorf("%d blobs are whole of %d, corrupt %v", whole, len(repo.files), corrupt)
				}
				if left, _ := filepath.Glob(filepath.Join(o.Cache, "models--*", "blobs", "*.incomplete")); len(left) >
					0 {
					t.Errorf("left behind: %v", left)
				}
				mu.Lock()
				defer mu.Unlock()
				for name, n := range server.count {
					counts[name] += n
				}
				for _, n := range hub.served {
					if n > 1 {
						faulty++
					} else {
						clean++
					}
				}
				gaveUp += failed
				blobs += whole
			})
		}
	})
	total := 0
	for _, f := range faults {
		if counts[f.name] == 0 {
			t.Errorf("fault %q never came", f.name)
		}
		total += counts[f.name]
	}
	if total < 200 {
		t.Errorf("%d faulty downloads, want at least 200", total)
	}
	t.Logf("%d faulty answers of %d kinds in the downloads of %d files (%d at once right), "+
		"%d fetches gave up and were run again; %d blobs, 0 corrupt",
		total, len(faults), faulty+clean, clean, gaveUp, blobs)
}

// TestGivesUp meets servers that stay bad: the error says how, and nothing takes the file's name.
func TestGivesUp(t *testing.T) {
	repo := &fakeRepo{files: map[string][]byte{"lora.safetensors": make([]byte, 100_000)}}
	repo.files["lora.safetensors"][70_000] = 1
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
	for _, f := range faults {
		switch f.name { // these bring the file in the end
		case "cut", "stall", "shorter, of unknown length", "range ignored", "slow", "another range":
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			hub := newFakeHub(t, hub.repos)
			rng, mu := rand.New(rand.NewPCG(1, 2)), sync.Mutex{}
			hub.setFault(func(w http.ResponseWriter, r *http.Request, file fakeFile, n int) bool {
				mu.Lock()
				defer mu.Unlock()
				f.serve(w, r, file, rng)
				return true
			})
			o := hub.options(t)
			o.Attempts, o.StallTimeout = 3, 100*time.Millisecond
			_, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
			if err == nil {
				t.Fatal("the fetch passed")
			}
			t.Log(err)
			if corrupt, whole := corruptBlobs(t, o.Cache); len(corrupt) > 0 || whole > 0 {
				t.Errorf("%d whole, corrupt %v", whole, corrupt)
			}
		})
	}
}

// TestRetryAfter waits as long as a server says, within the limit.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "7", 7 * time.Second},
		{"Retry-After", "0", 0},
		{"Retry-After", "-1", 0},
		{"Retry-After", "soon", 0},
		{"Retry-After", "4294967295", 365 * 24 * time.Hour},
		{"Retry-After", "Fri, 02 Jan 2026 03:05:05 GMT", time.Minute},
		{"Retry-After", "Fri, 02 Jan 2026 03:00:05 GMT", 0},
		{"RateLimit", `"api";r=0;t=55`, 56 * time.Second},
		{"RateLimit", `"api";r=12;t=55`, 0},
	} {
		if got := retryAfter(http.Header{http.CanonicalHeaderKey(c.name): {c.value}}, now); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, c.value, got, c.want)
		}
	}
	hub := newFakeHub(t, map[string]*fakeRepo{
		"org/name": {files: map[string][]byte{"lora.safetensors": []byte("lora")}},
	})
	var asked []time.Time
	hub.setFault(func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool {
		asked = append(asked, time.Now())
		if n > 0 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	o := hub.options(t)
	o.MaxRetryDelay = time.Minute
	if _, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{}); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || asked[1].Sub(asked[0]) < time.Second {
		t.Errorf("asked at %v, want twice, a second apart", asked)
	}
}
