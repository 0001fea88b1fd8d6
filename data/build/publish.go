package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"limner/internal/disk"
)

// The files of a dataset beside its parquet files, in the folder build.
const (
	recordFolder = "build"
	recordName   = "record.json"    // how it was made
	rowsName     = "rows.jsonl"     // where each row came from
	leftOutName  = "left_out.jsonl" // which rows were left out, and why
	dataFolder   = "data"
)

// from is what the dataset is made of, without where that lies.
type from struct {
	Name        string   `json:"name"`
	Rows        int      `json:"rows"`
	Fingerprint []string `json:"fingerprint"`      // of train and, if the source has it, validation
	Content     []string `json:"content"`          // hashes of the files' bytes, of many in samples
	Stamps      []string `json:"stamps,omitempty"` // of the times of the files, if content has samples of them
}

// from describes what is read.
func (b *builder) from() (f from, err error) {
	names := make([]string, len(b.job.In))
	for i, path := range b.job.In {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return f, err
		}
		names[i] = filepath.Base(absolute)
	}
	f.Name, f.Rows = strings.Join(names, ", "), b.rows()
	for _, set := range b.sets {
		fingerprint, err := set.Fingerprint()
		if err != nil {
			return f, err
		}
		content, err := set.Content()
		if err != nil {
			return f, err
		}
		f.Fingerprint = append(f.Fingerprint, fingerprint)
		f.Content = append(f.Content, content.Sum)
		if content.Stamps != "" {
			f.Stamps = append(f.Stamps, content.Stamps)
		}
	}
	return f, nil
}

// recordedSettings are those that the rows follow from.
type recordedSettings struct {
	Settings
	ImageColumn             string `json:"image_column"`
	ConditioningImageColumn string `json:"conditioning_image_column,omitempty"`
	MaskColumn              string `json:"mask_column,omitempty"`
	CaptionColumn           string `json:"caption_column,omitempty"`
	Background              string `json:"background,omitempty"`
	Interpolation           string `json:"image_interpolation_mode"`
}

// recorded are the settings of the record.
func (b *builder) recorded() recordedSettings {
	s := recordedSettings{
		Settings: b.Settings, ImageColumn: b.reading.ImageColumn, MaskColumn: b.reading.MaskColumn,
		Background: b.reading.Background, Interpolation: string(b.filter),
	}
	if b.reading.NeedConditioning {
		s.ConditioningImageColumn = b.reading.ConditioningImageColumn
	}
	if !b.reading.NoCaptions {
		s.CaptionColumn = b.reading.CaptionColumn
	}
	return s
}

// record says how a dataset was made.
type record struct {
	Program  string                 `json:"program"`
	From     from                   `json:"from"`
	Settings recordedSettings       `json:"settings"`
	Columns  []string               `json:"columns"`
	Splits   map[string]splitRecord `json:"splits"`
	LeftOut  map[string]int         `json:"left_out,omitempty"`
	Copied   int                    `json:"copied,omitempty"` // images that are the files that were read
}

type splitRecord struct {
	Rows  int          `json:"rows"`
	Files []fileRecord `json:"files"`
}

type fileRecord struct {
	Name   string `json:"name"`
	Rows   int    `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// publish gives the files their last names, writes the record beside them, and gives the folder its name.
func (b *builder) publish(ctx context.Context) error {
	set := b.work.path(workSet)
	if err := b.rename(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(set, recordFolder), 0o755); err != nil {
		return err
	}
	if err := b.writeRows(ctx); err != nil {
		return fmt.Errorf("write %s: %w", set, err)
	}
	if err := b.writeRecord(); err != nil {
		return fmt.Errorf("write %s: %w", set, err)
	}
	if err := b.failure("publish"); err != nil {
		return err
	}
	return disk.PublishFilled(set, b.job.Out)
}

// rename gives the files the names that say how many there are. Some may have them already.
func (b *builder) rename() error {
	for _, p := range b.parts {
		if p.Rows == 0 {
			continue
		}
		err := os.Rename(b.work.path(workSet, dataFolder, p.name()),
			b.work.path(workSet, dataFolder, p.lastName(b.numbers[p.Split])))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := b.failure("renamed"); err != nil {
			return err
		}
	}
	return nil
}

// writeRecord writes the record, and fills the summary.
func (b *builder) writeRecord() error {
	r := record{
		Program: b.job.Program, From: b.read, Settings: b.recorded(), Splits: map[string]splitRecord{},
		LeftOut: b.summary.LeftOut, Copied: b.summary.Copied,
	}
	for _, c := range b.columns {
		r.Columns = append(r.Columns, c.Name)
	}
	for _, split := range []string{splitTrain, splitValidation} {
		s := SplitSummary{Name: split, Rows: b.counts[split], Files: b.numbers[split]}
		if s.Rows == 0 {
			continue
		}
		var files []fileRecord
		for _, p := range b.parts {
			if p.Split == split && p.Rows > 0 {
				files = append(files, fileRecord{
					Name: dataFolder + "/" + p.lastName(s.Files), Rows: p.Rows, Bytes: p.Bytes, SHA256: p.SHA256,
				})
				s.Bytes += p.Bytes
			}
		}
		r.Splits[split] = splitRecord{Rows: s.Rows, Files: files}
		b.summary.Splits = append(b.summary.Splits, s)
	}
	b.summary.Rows = b.done
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFile(b.work.path(workSet, recordFolder, recordName), append(raw, '\n'), 0o644)
}

// keptRow is a line of the list of rows, in the order of the parquet files.
type keptRow struct {
	File  string `json:"file"`            // that was read
	Row   int64  `json:"row"`             // within it, from 0
	Image string `json:"image,omitempty"` // its name, where images are files
	In    string `json:"in"`              // the parquet file,
	Index int    `json:"index"`
}

// leftRow is a line of the list of rows that were left out.
type leftRow struct {
	File   string `json:"file"`
	Row    int64  `json:"row"`
	Image  string `json:"image,omitempty"`
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
}

// origin is where a row comes from.
type origin struct {
	file  string
	row   int64
	image string
}

// writeRows lists what became of each row.
func (b *builder) writeRows(ctx context.Context) error {
	write := func(name string, line func(e entry, o origin, p part, index int) any) error {
		return disk.Replace(b.work.path(workSet, recordFolder, name), 0o644, func(out io.Writer) error {
			encoder, last, index := json.NewEncoder(out), -1, 0
			for i, e := range b.work.entries(len(b.parts)) {
				if err := errors.Join(e.err, ctx.Err()); err != nil {
					return err
				}
				if i != last {
					last, index = i, 0
				}
				set, row := b.at(e.Row)
				var o origin
				o.file, o.row, o.image = set.Origin(row)
				if text := line(e.entry, o, b.parts[i], index); text != nil {
					if err := encoder.Encode(text); err != nil {
						return err
					}
				}
				if e.Why == "" {
					index++
				}
			}
			return nil
		})
	}
	err := write(rowsName, func(e entry, o origin, p part, index int) any {
		if e.Why != "" {
			return nil
		}
		in := dataFolder + "/" + p.lastName(b.numbers[p.Split])
		return keptRow{File: o.file, Row: o.row, Image: o.image, In: in, Index: index}
	})
	if err != nil {
		return err
	}
	return write(leftOutName, func(e entry, o origin, _ part, _ int) any {
		if e.Why == "" {
			return nil
		}
		return leftRow{File: o.file, Row: o.row, Image: o.image, Reason: e.Why, Detail: e.Detail}
	})
}
