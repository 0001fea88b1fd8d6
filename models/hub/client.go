// Package hub downloads models and datasets from the Hugging Face Hub into the cache that Python's huggingface_hub
// uses.
package hub

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Client fetches models and datasets. It may be used from several goroutines, and several processes may share
// a cache.
type Client struct {
	options Options
	origin  string // of the endpoint
	http    *http.Client
	head    *http.Client // follows no redirect to another host
	logging sync.Mutex
}

// New makes a client. It does nothing on the network or the disk.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("hub options: %w", err)
	}
	u, err := parseEndpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	c := &Client{options: o, origin: origin(u)}
	transport := newTransport(c.origin, o.Token)
	c.http = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	c.head = &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if origin(r.URL) != c.origin {
			return http.ErrUseLastResponse
		}
		return checkRedirect(r, via)
	}}
	return c, nil
}

// Snapshot is a model or a dataset in the cache.
type Snapshot struct {
	Dir    string   // the folder of the repo's files
	Path   string   // what the ref means: Dir, a folder in it, or one file
	Commit string   // the revision's commit
	Files  []string // the files that were selected, relative to Dir, with slashes
}

// Fetch brings the selected files of ref into the cache, as far as they are not there yet, and
// says where they are. Offline, and where the Hub does not answer, it takes what the cache has if
// that is whole. Files appear under their names only when they are complete and verified; what
// an interrupted fetch left is taken up by the next one.
func (c *Client) Fetch(ctx context.Context, ref Ref, s Selection) (Snapshot, error) {
	snapshot, err := c.find(ctx, ref, s)
	return snapshot, c.options.Token.clean(err)
}

// find decides between the cache and the Hub.
func (c *Client) find(ctx context.Context, ref Ref, s Selection) (Snapshot, error) {
	if err := ref.Validate(); err != nil {
		return Snapshot{}, err
	}
	defer c.http.CloseIdleConnections()
	repo := c.repo(ref)
	local, localErr := repo.open(ref, s)
	if c.options.Offline {
		if localErr != nil {
			return Snapshot{},
				fmt.Errorf("%w: HF_HUB_OFFLINE is set, so nothing is downloaded: unset it and run again with a network",
					localErr)
		}
		return local, nil
	}
	attempts := c.options.Attempts
	if localErr == nil {
		attempts = 1 // there is something to fall back on
	}
	info, err := c.info(ctx, ref, attempts)
	if hasNoAPI(err) && commitPattern.MatchString(ref.Revision) && !ref.Dataset {
		if probed, probeErr := c.probe(ctx, ref, s); probeErr == nil && len(probed.files) > 0 {
			info, err = probed, nil
		}
	}
	switch {
	case err == nil:
		return c.fetch(ctx, repo, ref, s, info)
	case ctx.Err() != nil:
		return Snapshot{}, fmt.Errorf("look up %s: %w", ref, context.Cause(ctx))
	case !unavailable(err):
		return Snapshot{}, c.explain(ref, err)
	case localErr == nil:
		c.logf("%s: %v: taking commit %.8s from the cache", c.options.Endpoint, err, local.Commit)
		return local, nil
	}
	return Snapshot{}, fmt.Errorf("look up %s at %s: %w, and %w: check the network, "+
		"or set HF_ENDPOINT to a mirror that you can reach",
		ref, c.options.Endpoint, err, localErr)
}

// fetch selects among the files of a revision and downloads what is not there.
func (c *Client) fetch(ctx context.Context, repo repoCache, ref Ref, s Selection, info repoInfo) (Snapshot, error) {
	var index []byte
	if i := slices.IndexFunc(info.files, isIndex); i >= 0 && ref.Path == "" && !ref.Dataset {
		files, err := c.describe(ctx, ref, info.commit, info.files[i:i+1])
		if err != nil {
			return Snapshot{}, err
		}
		if err := c.download(ctx, repo, ref, info.commit, files, &meter{}); err != nil {
			return Snapshot{}, err
		}
		if index, err = repo.readIndex(info.commit); err != nil {
			return Snapshot{}, err
		}
	}
	choice, err := s.choose(info.files, ref, index)
	if err != nil {
		return Snapshot{}, fmt.Errorf("%s: %w", ref, err)
	}
	if err := choice.explain(ref); err != nil {
		return Snapshot{}, err
	}
	files, err := c.describe(ctx, ref, info.commit, choice.files)
	if err != nil {
		return Snapshot{}, err
	}
	if err := c.download(ctx, repo, ref, info.commit, files, &meter{report: c.options.Progress}); err != nil {
		return Snapshot{}, err
	}
	// The ref comes last, so that what it names is whole.
	if err := repo.writeRef(ref.Revision, info.commit); err != nil {
		c.logf("%s cannot be found offline: %v", ref, err)
	}
	return repo.snapshotOf(info.commit, choice), nil
}

// resolveURL is where the Hub serves a file.
func (c *Client) resolveURL(ref Ref, commit, path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return fmt.Sprintf("%s/%s/resolve/%s/%s", c.options.Endpoint, ref.page(), commit, strings.Join(parts, "/"))
}

func (c *Client) repo(ref Ref) repoCache {
	name := ref.kind() + "s--" + strings.ReplaceAll(ref.Repo, "/", "--")
	return repoCache{dir: filepath.Join(c.options.Cache, name), locks: filepath.Join(c.options.Cache, ".locks", name)}
}

// logf tells the user one line.
func (c *Client) logf(format string, args ...any) {
	if c.options.Log == nil {
		return
	}
	c.logging.Lock()
	defer c.logging.Unlock()
	c.options.Log(c.options.Token.redact(fmt.Sprintf(format, args...)))
}

// meter adds up the bytes of a fetch.
type meter struct {
	report      func(done, total int64, file string)
	mu          sync.Mutex
	done, total int64
}

// add counts n bytes of a file; n is negative where some are thrown away.
func (m *meter) add(n int64, file string) {
	if m.report == nil || n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	m.report(m.done, m.total, file)
}
