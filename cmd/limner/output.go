package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"limner/models/checkpoint"
)

// The files of an output folder of limner sample, beside the images.
const (
	recordFile = "sample.json"
	gridFile   = "grid.png"
)

// sampleRecord is sample.json: how the images were made. It also tells the command's own files from others.
type sampleRecord struct {
	Images []imageEntry `json:"images"`
	Files  []string     `json:"files"` // all that the command wrote, but sample.json
}

type imageEntry struct {
	File    string `json:"file"`
	Problem string `json:"problem,omitempty"` // what is wrong with the image
	imageRecord
}

// output is a folder that is new, empty, or holds an earlier result of limner sample and nothing else.
type output struct {
	dir    string
	old    []string // the earlier result's files
	record sampleRecord
	began  bool
}

// openOutput refuses a folder that holds anything else, and touches nothing.
func openOutput(dir string) (*output, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return &output{dir: dir}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	var record sampleRecord
	raw, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err == nil {
		err = json.Unmarshal(raw, &record)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("output folder: %s: %w", filepath.Join(dir, recordFile), err)
	}
	o := &output{dir: dir}
	for _, e := range entries {
		switch name := e.Name(); {
		case err != nil || name != recordFile && !slices.Contains(record.Files, name):
			return nil, fmt.Errorf("output folder %s holds something else (%s): name another, or empty it", dir, name)
		case name != recordFile:
			o.old = append(o.old, name)
		}
	}
	return o, nil
}

// begin makes room for files: the first time, it removes the earlier result. The record is written before them, so that whatever happens
// they are known as the command's own.
func (o *output) begin(files ...string) error {
	if !o.began {
		if err := os.MkdirAll(o.dir, 0o755); err != nil {
			return fmt.Errorf("output folder: %w", err)
		}
		for _, name := range o.old {
			if err := os.RemoveAll(filepath.Join(o.dir, name)); err != nil {
				return fmt.Errorf("output folder: %w", err)
			}
		}
		o.began = true
	}
	for _, name := range files {
		if !slices.Contains(o.record.Files, name) {
			o.record.Files = append(o.record.Files, name)
		}
	}
	return checkpoint.WriteJSON(filepath.Join(o.dir, recordFile), o.record)
}

// write writes a file that begin was told of.
func (o *output) write(name string, raw []byte) error {
	if err := renameio.WriteFile(filepath.Join(o.dir, name), raw, 0o644); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	return nil
}

// sortedKeys lists the keys of a map in order.
func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
