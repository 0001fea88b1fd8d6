package data

import (
	"errors"
	"fmt"

	"limner/data/imaging"
)

// maxPath is the longest path that a cell may have, in bytes.
const maxPath = 4096

// picture is an encoded picture: its bytes, or the file that has them, which is read when it is decoded.
type picture struct {
	bytes []byte
	path  string
}

// content reads the bytes.
func (p picture) content() ([]byte, error) {
	if p.path != "" {
		return imaging.ReadFile(p.path)
	}
	return p.bytes, nil
}

// imageCell is a value of a column of images.
type imageCell struct {
	column  string
	null    bool
	bytes   []byte
	noBytes bool  // they are null
	size    int64 // of bytes that are more than the limit, and were not read
	path    string
}

// besideError is the error of a cell whose picture should lie beside the file.
type besideError struct{ error }

// picture is the cell's picture: its bytes or, if they are null, the file below r that its path names.
func (c imageCell) picture(r *root) (picture, error) {
	switch {
	case c.null:
		return picture{}, fmt.Errorf("%s is null", c.column)
	case c.size > 0:
		return picture{}, fmt.Errorf("%s: %d bytes: at most %d are read", c.column, c.size, imaging.MaxFileBytes)
	case !c.noBytes && len(c.bytes) == 0:
		return picture{}, fmt.Errorf("%s has zero bytes", c.column)
	case !c.noBytes:
		return picture{bytes: c.bytes}, nil
	case c.path == "":
		return picture{}, fmt.Errorf("%s has null bytes and no path", c.column)
	}
	path, _, err := r.find(c.path)
	if err != nil {
		return picture{}, besideError{fmt.Errorf("%s has null bytes, and a path: %w", c.column, err)}
	}
	return picture{path: path}, nil
}

// mayBeEmpty says whether rows have so few bytes that most of them can have no pictures, but paths.
func mayBeEmpty(bytes, rows int64) bool { return bytes < 16*rows+1024 }

// besides finds the files beside a table whose cells have paths in place of bytes. read reads rows of one column of a
// group. It fails for files that are missing, and for paths that lead elsewhere.
func besides(name string, groups []group, wanted func(group int) bool,
	read func(group int, first, count int64) []rawRow) (paths []string, err error) {
	const chunk = 1024
	var errs []error
	start := int64(0)
	for g, group := range groups {
		for first := int64(0); wanted(g) && first < group.rows; first += chunk {
			for i, row := range read(g, first, min(chunk, group.rows-first)) {
				if beside := (besideError{}); errors.As(row.err, &beside) {
					errs = append(errs, fmt.Errorf("%s row %d: %w", name, start+first+int64(i), beside))
				} else if row.image.path != "" {
					paths = append(paths, row.image.path)
				}
			}
		}
		start += group.rows
	}
	return paths, firstOf(errs)
}
