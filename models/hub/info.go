package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"limner/internal/plaintext"
)

const (
	maxInfo = 64 << 20 // bytes of a repo's file list
	maxFile = 1 << 50  // bytes of a file
)

// file is a file of a repo.
type file struct {
	path string
	size int64  // -1 if unknown
	etag string // its SHA-256 in LFS, its git SHA-1 elsewhere; empty if unknown
}

func isIndex(f file) bool { return f.path == "model_index.json" }

// repoInfo is a revision of a repo.
type repoInfo struct {
	commit string
	files  []file
}

// info asks the Hub for a revision's commit and files.
func (c *Client) info(ctx context.Context, ref Ref, attempts int) (repoInfo, error) {
	address := fmt.Sprintf("%s/api/%ss/%s/revision/%s?blobs=true",
		c.options.Endpoint, ref.kind(), ref.Repo, url.PathEscape(ref.Revision))
	var data []byte
	err := c.retry(ctx, attempts, "look up "+ref.String(), func() (_ bool, err error) {
		data, err = c.getLimited(ctx, address, maxInfo)
		return false, err
	})
	if err != nil {
		return repoInfo{}, err
	}
	info, err := parseInfo(data)
	if err != nil {
		return repoInfo{}, fmt.Errorf("the answer of %s is not the Hub's: %w", c.options.Endpoint, err)
	}
	return info, nil
}

var (
	sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	etagPattern   = regexp.MustCompile(`^[0-9A-Za-z_-]{1,128}$`)
)

// parseInfo reads the answer of /api/models and of /api/datasets. Names that would lead out of a folder are an error;
// names that some system cannot hold are left out, as nothing here needs one.
func parseInfo(data []byte) (repoInfo, error) {
	var answer struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name   string `json:"rfilename"`
			Size   *int64 `json:"size"`
			BlobID string `json:"blobId"`
			LFS    *struct {
				SHA256 string `json:"sha256"`
				Size   *int64 `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := plaintext.JSON(data, &answer); err != nil {
		return repoInfo{}, fmt.Errorf("read the repo's files: %w", err)
	}
	if !commitPattern.MatchString(answer.SHA) {
		return repoInfo{}, fmt.Errorf("commit %s: want 40 hexadecimal digits", brief(answer.SHA))
	}
	info := repoInfo{commit: answer.SHA}
	seen := map[string]bool{}
	for _, s := range answer.Siblings {
		if strings.HasPrefix(s.Name, "/") || hasDots(s.Name) {
			return repoInfo{}, fmt.Errorf("file %s is outside the repo", brief(s.Name))
		}
		if !validPath(s.Name) || seen[s.Name] {
			continue
		}
		seen[s.Name] = true
		f := file{path: s.Name, size: -1, etag: s.BlobID}
		size, pattern := s.Size, commitPattern
		if s.LFS != nil {
			f.etag, pattern = s.LFS.SHA256, sha256Pattern
			if s.LFS.Size != nil {
				size = s.LFS.Size
			}
		}
		if f.etag != "" && !pattern.MatchString(f.etag) {
			return repoInfo{}, fmt.Errorf("file %s: hash %s: want hexadecimal digits", f.path, brief(f.etag))
		}
		if size != nil {
			f.size = *size
			if f.size < 0 || f.size > maxFile {
				return repoInfo{}, fmt.Errorf("file %s: %d bytes", f.path, f.size)
			}
		}
		info.files = append(info.files, f)
	}
	return info, nil
}

// brief quotes a value whole, or not at all if it is endless.
func brief(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("of %d bytes", len(s))
	}
	return strconv.Quote(s)
}

func hasDots(name string) bool {
	for part := range strings.FieldsFuncSeq(name, func(c rune) bool { return c == '/' || c == '\\' }) {
		if part == ".." {
			return true
		}
	}
	return false
}

// describe asks for the size and hash of the files that the list did not say them of, as a mirror
// may leave them out.
func (c *Client) describe(ctx context.Context, ref Ref, commit string, files []file) ([]file, error) {
	described := make([]file, len(files))
	for i, f := range files {
		if f.size < 0 || f.etag == "" {
			err := c.retry(ctx, c.options.Attempts, "look up "+f.path, func() (_ bool, err error) {
				f, err = c.headFile(ctx, c.resolveURL(ref, commit, f.path), f)
				return false, err
			})
			if err != nil {
				return nil, fmt.Errorf("look up %s: %w", f.path, c.explain(ref, err))
			}
		}
		described[i] = f
	}
	return described, nil
}

// headFile asks the Hub itself: the host that a large file is redirected to names it otherwise. An endpoint that has
// moved for good is followed.
func (c *Client) headFile(ctx context.Context, address string, f file) (file, error) {
	for range maxRedirects {
		to, err := c.headAt(ctx, address, &f)
		if err != nil || to == "" {
			return f, err
		}
		address = to
	}
	return f, networkError{
		redirectError{fmt.Errorf("the server redirects more than %d times, or in a circle", maxRedirects)},
	}
}

// headAt asks one address for a file's size and ETag, or says where it has moved to.
func (c *Client) headAt(ctx context.Context, address string, f *file) (moved string, err error) {
	r, _, done, err := c.send(ctx, c.head, http.MethodHead, address, "")
	if err != nil {
		return "", err
	}
	defer done()
	redirect := r.StatusCode/100 == 3
	size, etag := r.Header.Get("X-Linked-Size"), r.Header.Get("X-Linked-Etag")
	if size == "" && etag == "" && (r.StatusCode == http.StatusPermanentRedirect ||
		r.StatusCode == http.StatusMovedPermanently) {
		to, err := r.Location()
		if err != nil {
			return "", fmt.Errorf("the server redirects to no address: %w", err)
		}
		if to.Scheme != "https" && to.Scheme != "http" {
			return "",
				redirectError{fmt.Errorf("the server redirects to an address that begins with %.20q, "+
					"want https or http", to.Scheme+":")}
		}
		return to.String(), nil
	}
	if r.StatusCode != http.StatusOK && !redirect {
		return "", c.statusError(r)
	}
	if size == "" && !redirect {
		size = r.Header.Get("Content-Length")
	}
	if etag == "" {
		etag = r.Header.Get("ETag")
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 || n > maxFile {
		return "", fmt.Errorf("the server does not say its size (%s)", c.quote(size))
	}
	etag = strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
	if !etagPattern.MatchString(etag) {
		return "", fmt.Errorf("the server does not say its ETag (%s)", c.quote(etag))
	}
	f.size, f.etag = n, etag
	return "", nil
}

// explain says what an answer of the Hub means and what to do about it.
func (c *Client) explain(ref Ref, err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return fmt.Errorf("%s: %w", ref, err)
	}
	if status.elsewhere {
		if status.code == http.StatusUnauthorized || status.code == http.StatusForbidden {
			return fmt.Errorf("%s: %s redirects to %s, which is sent no token: set HF_ENDPOINT to that address, "+
				"if you trust it with the token: %w",
				ref, c.options.Endpoint, status.origin, err)
		}
		return fmt.Errorf("%s: %s redirects to %s: %w", ref, c.options.Endpoint, status.origin, err)
	}
	page, token := c.options.Endpoint+"/"+ref.page(), c.options.Token.IsSet()
	invalid := strings.HasPrefix(status.message, "Invalid credentials") ||
		strings.HasPrefix(status.message, "Invalid username")
	switch {
	case status.reason == "GatedRepo" && token:
		return fmt.Errorf("%s is gated: accept the conditions at %s with the account that HF_TOKEN belongs to, "+
			"and see that the token may read gated repos: %w", ref.Repo, page, err)
	case status.reason == "GatedRepo":
		return fmt.Errorf("%s is gated: accept the conditions at %s and set HF_TOKEN: %w", ref.Repo, page, err)
	case status.reason == "RevisionNotFound":
		return fmt.Errorf("%s has no revision %q: see the branches and tags at %s/tree/main: %w",
			ref.Repo, ref.Revision, page, err)
	case status.reason == "EntryNotFound":
		return fmt.Errorf("%s: a file that the Hub lists is not there: %w", ref, err)
	case status.code == http.StatusUnauthorized && token && invalid:
		return fmt.Errorf(
			"%s: the Hub does not know the token: make a new one at %s/settings/tokens and set HF_TOKEN, "+
				"or unset it for a public %s: %w", ref.Repo, c.options.Endpoint, ref.kind(), err)
	case status.reason == "RepoNotFound" || status.code == http.StatusUnauthorized ||
		status.code == http.StatusNotFound && status.reason == "":
		if token {
			return fmt.Errorf("no %s %s at %s that the token in use may read: check the spelling, "+
				"and if it is private, that HF_TOKEN has access to it: %w",
				ref.kind(), ref.Repo, c.options.Endpoint, err)
		}
		return fmt.Errorf("no public %s %s at %s: check the spelling, "+
			"and if it is private or gated, set HF_TOKEN: %w",
			ref.kind(), ref.Repo, c.options.Endpoint, err)
	case status.code == http.StatusForbidden:
		return fmt.Errorf("%s: no permission: see that HF_TOKEN may read this repo, at %s/settings/tokens: %w",
			ref.Repo, c.options.Endpoint, err)
	}
	return fmt.Errorf("%s: %w", ref, err)
}
