package hub

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mirror is a server in front of a hub, which sees the paths first.
func mirror(t *testing.T, hub *fakeHub, handle func(w http.ResponseWriter, r *http.Request) (handled bool)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !handle(w, r) {
			hub.serveHub(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// An endpoint that has moved works for public models, without the token; where the new host wants one, it is named.
func TestMirrorThatMoved(t *testing.T) {
	for name, repo := range map[string]*fakeRepo{
		"public": {files: pipelineFiles()}, "without sizes": {files: pipelineFiles(), bare: true},
		"private": {files: pipelineFiles(), private: true}, "gated": {files: pipelineFiles(), gated: true},
	} {
		t.Run(name, func(t *testing.T) {
			hub := newFakeHub(t, map[string]*fakeRepo{"org/name": repo})
			var tokens []string
			hub.hub.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tokens = append(tokens, r.Header.Get("Authorization"))
				hub.serveHub(w, r)
			})
			o := hub.options(t)
			o.Parallel = 1
			o.Token, _ = NewToken(testToken)
			o.Endpoint = mirror(t, hub, func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, hub.hub.URL+r.URL.RequestURI(), http.StatusPermanentRedirect)
				return true
			})
			s, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{})
			if slices.ContainsFunc(tokens, func(token string) bool { return token != "" }) {
				t.Error("the token went to the new host")
			}
			if repo.private || repo.gated {
				want := o.Endpoint + " redirects to " + hub.hub.URL +
					", which is sent no token: set HF_ENDPOINT to that address"
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkFiles(t, s, repo)
			if len(s.Files) != len(pipelineWanted) {
				t.Errorf("got %v", s.Files)
			}
		})
	}
}

// An endpoint that only serves files serves a model by its commit.
func TestMirrorWithoutAPI(t *testing.T) {
	lora := map[string][]byte{"adapter_model.safetensors": []byte("weights"), "adapter_config.json": []byte("{}")}
	repos := map[string]*fakeRepo{"org/name": {files: pipelineFiles()}, "org/lora": {files: lora}}
	hub := newFakeHub(t, repos)
	o := hub.options(t)
	o.Endpoint = mirror(t, hub, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			http.NotFound(w, r)
			return true
		}
		return false
	})
	for name, want := range map[string][]string{
		"org/name": pipelineWanted, "org/lora": {"adapter_config.json", "adapter_model.safetensors"},
		"org/name/vae":                     {"vae/config.json", "vae/diffusion_pytorch_model.safetensors"},
		"org/name/v1-5-pruned.safetensors": {"v1-5-pruned.safetensors"},
	} {
		ref, err := ParseRef(name + "@" + testCommit)
		if err != nil {
			t.Fatal(err)
		}
		s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkFiles(t, s, repos[ref.Repo])
		if got := slices.Sorted(slices.Values(s.Files)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	_, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/other", Revision: testCommit}, Selection{})
	if err == nil || !strings.Contains(err.Error(), "no public model org/other") {
		t.Errorf("no such repo: got %v", err)
	}
	if _, err = newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: "main"}, Selection{}); err == nil {
		t.Error("a branch was found without an API")
	}
}

// A cache whose branches are not known says which revisions it has.
func TestOfflineListsRevisions(t *testing.T) {
	hub := newFakeHub(t, map[string]*fakeRepo{"org/name": {files: pipelineFiles()}})
	o := hub.options(t)
	ref := Ref{Repo: "org/name", Revision: "main"}
	s, err := newClient(t, o).Fetch(t.Context(), ref, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	o.Offline = true
	if err := os.RemoveAll(filepath.Join(o.Cache, "models--org--name", "refs")); err != nil {
		t.Fatal(err)
	}
	_, err = newClient(t, o).Fetch(t.Context(), ref, Selection{})
	want := "which has the revisions " + testCommit + ": one of them is taken as org/name@" + testCommit
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	again, err := newClient(t, o).Fetch(t.Context(), Ref{Repo: "org/name", Revision: testCommit}, Selection{})
	if err != nil || again.Dir != s.Dir {
		t.Errorf("got %s, %v, want %s", again.Dir, err, s.Dir)
	}
}
