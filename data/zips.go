package data

import (
	"archive/zip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"limner/internal/disk"
)

// zips are the zip archives of a folder, in which pictures are looked for that do not lie in the folder itself.
type zips struct {
	dir    string
	opened bool
	err    error // of opening
	files  []*os.File
	paths  []string
	member map[string][]place
}

// open reads the directories of all archives, once.
func (z *zips) open() error {
	if z.opened {
		return z.err
	}
	z.opened, z.member = true, map[string][]place{}
	entries, err := os.ReadDir(z.dir)
	for _, e := range entries { // sorted by name
		if err == nil && strings.EqualFold(filepath.Ext(e.Name()), ".zip") {
			err = z.add(filepath.Join(z.dir, e.Name()))
		}
	}
	z.err = err
	return err
}

// add reads the directory of an archive.
func (z *zips) add(path string) error {
	f, size, err := disk.OpenSize(path)
	if err != nil {
		return err // names the path
	}
	z.files, z.paths = append(z.files, f), append(z.paths, path)
	r, err := zip.NewReader(f, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are only compared with
		return fmt.Errorf("%s: %w: truncated or no zip archive", path, err)
	}
	for _, file := range r.File {
		if !isImageName(filepath.Base(file.Name)) {
			continue
		}
		name := strings.TrimPrefix(file.Name, "./")
		z.member[name] = append(z.member[name], place{
			name: file.Name, path: path, size: int64(file.UncompressedSize64), zip: file,
		})
	}
	return nil
}

// find looks for a picture under its name or, as in images.zip for images/0.png, under its name within the folder that
// the archive is called after. ok is false where there is no archive.
func (z *zips) find(name string) (p place, ok bool, err error) {
	if err := z.open(); err != nil {
		return place{}, false, err
	}
	if len(z.files) == 0 {
		return place{}, false, nil
	}
	found := z.member[name]
	if folder, rest, cut := strings.Cut(name, "/"); cut && len(found) == 0 {
		found = slices.DeleteFunc(slices.Clone(z.member[rest]), func(p place) bool {
			return withoutExtension(filepath.Base(p.path)) != folder
		})
	}
	switch {
	case len(found) == 0:
		return place{}, false, fmt.Errorf("%s is neither in %s nor in its archives %s", name, z.dir, z.describe())
	case len(found) > 1:
		return place{}, false, fmt.Errorf("%s is in the archives %d times: %s and %s", name, len(found),
			found[0].path, found[1].path)
	case found[0].size > maxMember || found[0].size < 0:
		return place{}, false, fmt.Errorf("%s, %s: %d bytes, at most %d are read of an image in an archive",
			found[0].path, name, found[0].zip.UncompressedSize64, maxMember)
	case found[0].zip.Flags&1 != 0:
		return place{}, false, fmt.Errorf("%s, %s: encrypted", found[0].path, name)
	}
	p = found[0]
	if p.offset, err = p.zip.DataOffset(); err != nil {
		return place{}, false, fmt.Errorf("%s, %s: %w", p.path, name, err)
	}
	return p, true, nil
}

// describe names the archives.
func (z *zips) describe() string {
	var names []string
	for _, path := range z.paths {
		names = append(names, filepath.Base(path))
	}
	return someNames(names)
}

// use notes the archives as used.
func (z *zips) use(used map[string]bool) {
	for _, path := range z.paths {
		used[filepath.Base(path)] = true
	}
}

// Close closes the archives.
func (z *zips) Close() error {
	var errs []error
	for _, f := range z.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
