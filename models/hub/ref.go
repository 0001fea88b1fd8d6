package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// DefaultRevision is the branch that is taken where none is named.
const DefaultRevision = "main"

// Ref names a repo on the Hub, or one file or folder of it, at a revision.
type Ref struct {
	Repo     string // org/name
	Revision string // a branch, a tag or a commit
	Path     string // a file or folder in the repo; empty for the whole
	Dataset  bool   // the repo holds a dataset, else a model
}

var (
	// namePattern is huggingface_hub's rule for an organization and for the name of a repo.
	namePattern     = regexp.MustCompile(`^\w$|^\w[\w.-]{0,94}\w$`)
	revisionPattern = regexp.MustCompile(`^\w[\w./+-]*$`)
	commitPattern   = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// ParseRef reads org/name, org/name@revision, org/name/file.safetensors or org/name/folder. The
// revision comes last and may hold slashes: org/name/unet@refs/pr/3.
func ParseRef(s string) (Ref, error) { return parseRef(s, false) }

// ParseDatasetRef reads the name of a dataset as ParseRef reads that of a model.
func ParseDatasetRef(s string) (Ref, error) { return parseRef(s, true) }

func parseRef(s string, dataset bool) (Ref, error) {
	r := Ref{Dataset: dataset}
	full, revision, pinned := strings.Cut(s, "@")
	if !pinned {
		revision = DefaultRevision
	}
	parts := strings.SplitN(full, "/", 3)
	if strings.Contains(s, "://") || len(parts) < 2 {
		if dataset {
			return Ref{}, fmt.Errorf("dataset %q: want org/name, org/name@revision or org/name/folder", s)
		}
		return Ref{}, fmt.Errorf("model %q: want org/name, org/name@revision or org/name/file.safetensors", s)
	}
	r.Repo, r.Revision = parts[0]+"/"+parts[1], revision
	if len(parts) == 3 {
		r.Path = strings.TrimSuffix(parts[2], "/")
	}
	if err := r.Validate(); err != nil {
		return Ref{}, fmt.Errorf("%s %q: %w", r.kind(), s, err)
	}
	return r, nil
}

// kind is what the repo holds, in words.
func (r Ref) kind() string {
	if r.Dataset {
		return "dataset"
	}
	return "model"
}

// page is the path of the repo's page, below which its files are served too.
func (r Ref) page() string {
	if r.Dataset {
		return "datasets/" + r.Repo
	}
	return r.Repo
}

// Validate reports every bad part. The rules for names are those of Python's huggingface_hub.
func (r Ref) Validate() error {
	var errs []error
	org, name, ok := strings.Cut(r.Repo, "/")
	switch {
	case !ok:
		errs = append(errs, fmt.Errorf("repo %q: want org/name", r.Repo))
	case !namePattern.MatchString(org), !namePattern.MatchString(name):
		errs = append(errs, fmt.Errorf("repo %q: a name has 1 to 96 letters, digits, '-', '_' or '.', "+
			"and neither '-' nor '.' at its ends", r.Repo))
	case strings.Contains(r.Repo, "--"), strings.Contains(r.Repo, ".."):
		errs = append(errs, fmt.Errorf("repo %q: the Hub has no names with '--' or '..'", r.Repo))
	case strings.HasSuffix(r.Repo, ".git"):
		errs = append(errs, fmt.Errorf("repo %q: the Hub has no names that end in .git", r.Repo))
	}
	if !validRevision(r.Revision) {
		errs = append(errs, fmt.Errorf("revision %q: want a branch, a tag or a commit", r.Revision))
	}
	if r.Path != "" && !validPath(r.Path) {
		errs = append(errs, fmt.Errorf("path %q: want a file or folder in the repo", r.Path))
	}
	return errors.Join(errs...)
}

func validRevision(s string) bool {
	return len(s) <= 255 && revisionPattern.MatchString(s) && fs.ValidPath(s) && !strings.Contains(s, "..") &&
		!strings.HasSuffix(s, ".lock")
}

// validPath says whether a name from a server or a user stays inside a folder on every system.
func validPath(s string) bool {
	odd := func(c rune) bool { return c < ' ' || c == '\\' || c == ':' || c == 0x7f }
	return len(s) <= 1024 && s != "." && fs.ValidPath(s) && !strings.ContainsFunc(s, odd)
}

// String writes the ref as ParseRef reads it.
func (r Ref) String() string {
	s := r.Repo
	if r.Path != "" {
		s += "/" + r.Path
	}
	if r.Revision != DefaultRevision {
		s += "@" + r.Revision
	}
	return s
}

// IsRef says whether s has the form of a Hub id rather than that of a path: org/name, where
// neither ./ nor / nor ~ leads and where the name is no weights file. A relative folder with two
// names has that form too, so look first whether the path exists.
func IsRef(s string) bool {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~") {
		return false
	}
	r, err := ParseRef(s)
	return err == nil && !slices.Contains(weightExtensions, path.Ext(r.Repo))
}

// weightExtensions are the files that a user may mean by a path with two names.
var weightExtensions = []string{".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".msgpack", ".gguf"}
