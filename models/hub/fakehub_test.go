package hub

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testCommit = "0123456789abcdef0123456789abcdef01234567"
	testToken  = "hf_veryVerySecretToken"
)

// fakeHub serves repos as the Hub does, those of datasets under datasets/org/name: the API and small files itself,
// large files by way of a redirect to a second host.
type fakeHub struct {
	hub, cdn *httptest.Server

	mu       sync.Mutex
	repos    map[string]*fakeRepo
	requests []string       // "GET /path"
	leaked   []string       // what carried a token to the second host
	served   map[string]int // requests of a file's content
	fault    func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) (handled bool)
}

type fakeRepo struct {
	commit     string
	files      map[string][]byte
	gated      bool
	private    bool
	bare       bool // the list has names alone, as that of some mirrors
	extraNames []string
}

type fakeFile struct {
	name string
	data []byte
}

// lfs says whether the Hub would keep a file in LFS.
func (f fakeFile) lfs() bool { return filepath.Ext(f.name) == ".safetensors" || len(f.data) > 10_000 }

func (f fakeFile) sha256() string {
	sum := sha256.Sum256(f.data)
	return hex.EncodeToString(sum[:])
}

func (f fakeFile) gitSHA() string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(f.data), f.data))
	return hex.EncodeToString(sum[:])
}

func (f fakeFile) etag() string {
	if f.lfs() {
		return f.sha256()
	}
	return f.gitSHA()
}

func newFakeHub(t testing.TB, repos map[string]*fakeRepo) *fakeHub {
	h := &fakeHub{repos: repos, served: map[string]int{}}
	h.hub = httptest.NewServer(http.HandlerFunc(h.serveHub))
	h.cdn = httptest.NewServer(http.HandlerFunc(h.serveCDN))
	t.Cleanup(func() {
		h.hub.CloseClientConnections()
		h.cdn.CloseClientConnections()
		h.hub.Close()
		h.cdn.Close()
	})
	for _, r := range repos {
		if r.commit == "" {
			r.commit = testCommit
		}
	}
	return h
}

func (h *fakeHub) options(t testing.TB) Options {
	o := DefaultOptions()
	o.Endpoint, o.Cache = h.hub.URL, t.TempDir()
	o.StallTimeout, o.RetryDelay, o.MaxRetryDelay = 5*time.Second, time.Millisecond, 10*time.Millisecond
	return o
}

// count says how many requests so far had a method, or any if it is empty, and hold a part of a path.
func (h *fakeHub) count(method, part string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.requests {
		if (method == "" || strings.HasPrefix(r, method+" ")) && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

func (h *fakeHub) setFault(f func(w http.ResponseWriter, r *http.Request, f fakeFile, n int) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

func (h *fakeHub) note(r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r.Method+" "+r.URL.EscapedPath())
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", message)
	w.WriteHeader(status)
}

func (h *fakeHub) serveHub(w http.ResponseWriter, r *http.Request) {
	h.note(r)
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i := range parts {
		parts[i], _ = url.PathUnescape(parts[i])
	}
	api := len(parts) > 2 && parts[0] == "api" && (parts[1] == "models" || parts[1] == "datasets")
	kind := ""
	if api && parts[1] == "datasets" || parts[0] == "datasets" {
		kind = "datasets/"
	}
	switch {
	case api:
		parts = parts[2:]
	case kind != "":
		parts = parts[1:]
	}
	if len(parts) < 2 {
		http.NotFound(w, r)
		return
	}
	repo := h.repos[kind+parts[0]+"/"+parts[1]]
	authorized := r.Header.Get("Authorization") == "Bearer "+testToken
	if repo == nil || repo.private && !authorized {
		refuse(w, http.StatusUnauthorized, "RepoNotFound", "Repository not found")
		return
	}
	rest := parts[2:]
	if len(rest) > 1 && rest[1] != "main" && rest[1] != "refs/pr/1" && rest[1] != repo.commit {
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+rest[1])
		return
	}
	w.Header().Set("X-Repo-Commit", repo.commit)
	switch {
	case api && (len(rest) == 0 || len(rest) == 2 && rest[0] == "revision"):
		h.serveInfo(w, parts[0]+"/"+parts[1], repo)
	case api && len(rest) == 2 && rest[0] == "tree":
		h.serveTree(w, repo)
	case len(rest) > 2 && rest[0] == "resolve":
		if repo.gated && !authorized {
			refuse(w, http.StatusUnauthorized, "GatedRepo", "Access to model is restricted")
			return
		}
		name := strings.Join(rest[2:], "/")
		data, ok := repo.files[name]
		if !ok {
			refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
			return
		}
		h.serveFile(w, r, fakeFile{name, data})
	default:
		http.NotFound(w, r)
	}
}

func (h *fakeHub) serveInfo(w http.ResponseWriter, id string, repo *fakeRepo) {
	siblings := []map[string]any{}
	for _, name := range repo.extraNames {
		siblings = append(siblings, map[string]any{"rfilename": name, "size": 1})
	}
	for name, data := range repo.files {
		f := fakeFile{name, data}
		s := map[string]any{"rfilename": name}
		if !repo.bare {
			s["size"], s["blobId"] = len(data), f.gitSHA()
			if f.lfs() {
				s["lfs"] = map[string]any{"sha256": f.sha256(), "size": len(data), "pointerSize": 130}
			}
		}
		siblings = append(siblings, s)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "modelId": id, "sha": repo.commit, "siblings": siblings})
}

func (h *fakeHub) serveTree(w http.ResponseWriter, repo *fakeRepo) {
	entries := []map[string]any{}
	for name, data := range repo.files {
		f := fakeFile{name, data}
		e := map[string]any{"type": "file", "path": name, "size": len(data), "oid": f.gitSHA()}
		if f.lfs() {
			e["lfs"] = map[string]any{"oid": f.sha256(), "size": len(data), "pointerSize": 130}
		}
		entries = append(entries, e)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(entries)
}

// serveFile serves a small file, and sends to the second host for a large one.
func (h *fakeHub) serveFile(w http.ResponseWriter, r *http.Request, f fakeFile) {
	if f.lfs() {
		w.Header().Set("X-Linked-Etag", `"`+f.sha256()+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(f.data)))
		w.Header().Set("Location", h.cdn.URL+"/"+f.sha256()+"?signature=s")
		w.WriteHeader(http.StatusFound)
		return
	}
	w.Header().Set("ETag", `"`+f.gitSHA()+`"`)
	h.serveContent(w, r, f)
}

func (h *fakeHub) serveCDN(w http.ResponseWriter, r *http.Request) {
	h.note(r)
	for name, values := range r.Header {
		if name == "Authorization" || strings.Contains(strings.Join(values, " "), testToken) {
			h.mu.Lock()
			h.leaked = append(h.leaked, name)
			h.mu.Unlock()
		}
	}
	for _, repo := range h.repos {
		for name, data := range repo.files {
			if f := (fakeFile{name, data}); "/"+f.sha256() == r.URL.Path {
				w.Header().Set("ETag", `"not-the-hash-of-the-hub"`)
				h.serveContent(w, r, f)
				return
			}
		}
	}
	http.NotFound(w, r)
}

// serveContent answers with the bytes, or with a fault.
func (h *fakeHub) serveContent(w http.ResponseWriter, r *http.Request, f fakeFile) {
	h.mu.Lock()
	fault, n := h.fault, h.served[f.name]
	h.served[f.name]++
	h.mu.Unlock()
	if fault != nil && r.Method == http.MethodGet && fault(w, r, f, n) {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

// pipelineFiles is a small pipeline with what a real repo has beside it.
func pipelineFiles() map[string][]byte {
	weights := func(name string, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*7 + i>>8 + len(name))
		}
		return append(b, name...)
	}
	files := map[string][]byte{
		"model_index.json": []byte(`{"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
			"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
			"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
			"scheduler": ["diffusers", "DDIMScheduler"], "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
			"feature_extractor": ["transformers", "CLIPImageProcessor"], "image_encoder": [null, null],
			"requires_safety_checker": true}`),
		"README.md":                               []byte("# a model\n"),
		"v1-5-pruned.safetensors":                 weights("single", 3000),
		"v1-5-pruned.ckpt":                        weights("single.ckpt", 3000),
		"safety_checker/model.safetensors":        weights("safety", 1000),
		"safety_checker/config.json":              []byte(`{"safety": 1}`),
		"feature_extractor/config.json":           []byte(`{"feature": 1}`),
		"scheduler/scheduler_config.json":         []byte(`{"_class_name": "DDIMScheduler"}`),
		"tokenizer/vocab.json":                    weights("vocab", 20_000),
		"tokenizer/merges.txt":                    []byte("#version: 0.2\na b\n"),
		"tokenizer/tokenizer_config.json":         []byte(`{"model_max_length": 77}`),
		"text_encoder/config.json":                []byte(`{"hidden_size": 4}`),
		"text_encoder/model.safetensors":          weights("text", 50_000),
		"text_encoder/model.fp16.safetensors":     weights("text16", 25_000),
		"text_encoder/pytorch_model.bin":          weights("textbin", 50_000),
		"vae/config.json":                         []byte(`{"latent_channels": 4}`),
		"vae/diffusion_pytorch_model.safetensors": weights("vae", 60_000),
		"vae/diffusion_pytorch_model.bin":         weights("vaebin", 60_000),
		"unet/config.json":                        []byte(`{"sample_size": 8}`),
		"unet/diffusion_flax_model.msgpack":       weights("flax", 90_000),
	}
	for _, name := range []string{
		"unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
	} {
		files[name] = weights(name, 400_000)
	}
	return files
}

// pipelineWanted is what a fetch of it takes.
var pipelineWanted = []string{
	"model_index.json", "scheduler/scheduler_config.json",
	"text_encoder/config.json", "text_encoder/model.safetensors",
	"tokenizer/merges.txt", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json",
	"unet/config.json", "unet/diffusion_pytorch_model.safetensors",
	"vae/config.json", "vae/diffusion_pytorch_model.safetensors",
}

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkFiles compares what a fetch brought with what the hub has.
func checkFiles(t testing.TB, s Snapshot, repo *fakeRepo) {
	t.Helper()
	for _, name := range s.Files {
		got, err := os.ReadFile(filepath.Join(s.Dir, filepath.FromSlash(name)))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, repo.files[name]) {
			t.Errorf("%s: %d bytes differ from the %d of the server", name, len(got), len(repo.files[name]))
		}
	}
}

// corruptBlobs lists the blobs that are not what their names say.
func corruptBlobs(t testing.TB, cache string) (corrupt []string, whole int) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(cache, "models--*", "blobs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range blobs {
		if strings.HasSuffix(path, ".incomplete") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := fakeFile{data: data}
		if name := filepath.Base(path); name != f.sha256() && name != f.gitSHA() {
			corrupt = append(corrupt, path)
		} else {
			whole++
		}
	}
	return corrupt, whole
}
