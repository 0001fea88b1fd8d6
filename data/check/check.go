// Package check reads a dataset as training does and says what is wrong with it, what a run on it takes, and what to
// do about it.
package check

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"limner/data"
	"limner/internal/printable"
	"limner/internal/settings"
)

// Options say what is checked, and for which run: flags of limner data check.
type Options struct {
	data.Reading
	MaskColumn     string   `json:"mask_column" placeholder:"NAME" help:"Column of masks."`
	ValidationData []string `json:"validation_data_dir" name:"validation-data-dir" placeholder:"DIR" help:"Held-out rows, if they are not a split of the dataset's own files."`
	Resolution     int      `json:"resolution" placeholder:"PIXELS" help:"Side of the training images; without it, the shorter side of most images, at most 512."`
	BatchSize      int      `json:"train_batch_size" name:"train-batch-size" default:"4" help:"Images of a step, over all devices."`
	// Tokenizers count the tokens of captions; without any they are not counted.
	Tokenizers []Tokenizer `json:"-" kong:"-"`
	// Tokenizer says whose tokens are counted.
	Tokenizer string `json:"-" kong:"-"`
}

// Default are the options that flags begin with.
func Default() Options { return settings.Default[Options]() }

// Tokenizer is a text encoder's.
type Tokenizer interface {
	// Encode returns the ids of a text, without those that mark its start and end.
	Encode(text string) []int32
	// MaxLength is how many ids are read, with those two.
	MaxLength() int
}

// Validate reports every unusable field.
func (o Options) Validate() error {
	var errs []error
	if o.Resolution < 0 || o.Resolution > data.MaxResolution {
		errs = append(errs, fmt.Errorf("resolution %d: want 1 to %d pixels", o.Resolution, data.MaxResolution))
	}
	if o.BatchSize < 1 {
		errs = append(errs, fmt.Errorf("train_batch_size %d: want at least 1", o.BatchSize))
	}
	return errors.Join(errs...)
}

// extras are the columns that are read if there are any: where pictures come from, and what may be done with them.
var extras = []string{"file_name", "license", "licence"}

// Run reads all rows of a dataset, and the held-out ones, and reports on them. progress, which may be nil, is called as
// rows are done. It fails if the dataset cannot be opened, as training would.
func Run(ctx context.Context, paths []string, o Options, progress func(done, total int)) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	train, lacks, err := openWhatIsThere(paths, o, false)
	if err != nil {
		return nil, err
	}
	defer train.Close()
	parts := []part{train}
	heldOut, missing, err := openHeldOut(paths, o, train)
	if err != nil {
		return nil, err
	}
	if heldOut != nil {
		defer heldOut.Close()
		parts = append(parts, *heldOut)
	}
	if o.Resolution == 0 {
		if o.Resolution, err = usualSide(train.Dataset); err != nil {
			return nil, err
		}
		for i := range parts {
			parts[i].assumed = true
		}
	}
	total, done := 0, 0
	for _, p := range parts {
		total += p.Len()
	}
	t := newTally(o)
	for _, p := range parts {
		t.begin(p)
		for i, m := range data.Map(p.Dataset, func(r data.Row, err error) *measured { return measure(p, o, r, err) }) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			t.add(i, m)
			if done++; progress != nil {
				progress(done, total)
			}
		}
	}
	var names []string
	for _, path := range paths {
		names = append(names, printable.Line(filepath.Base(filepath.Clean(path)), nameLimit))
	}
	r := t.report(lacks, missing)
	r.Dataset = strings.Join(names, ", ")
	r.paths, r.reading = paths, train.options
	if r.heldOut = o.ValidationData; heldOut != nil && len(r.heldOut) == 0 {
		r.heldOut = paths
	}
	return r, nil
}

// part is one split of a dataset, open.
type part struct {
	*data.Dataset
	name    string // train or held-out
	options data.Options
	opened  string // what the log of opening says
	assumed bool   // the resolution was not given
}

// lack is a column that a dataset does not have, with the reason why.
type lack struct{ column, reason string }

// openWhatIsThere opens a split with all columns, or with those that there are.
func openWhatIsThere(paths []string, o Options, heldOut bool) (p part, lacks []lack, err error) {
	var errs [4]error
	for k, without := range []struct{ conditions, captions bool }{
		{}, {conditions: true}, {captions: true}, {true, true},
	} {
		if without.conditions && o.ConditioningDataDir != "" {
			continue // they are wanted
		}
		var log bytes.Buffer
		p = part{name: "train", options: data.DefaultOptions()}
		if heldOut {
			p.name = "held-out"
		}
		p.options.Reading, p.options.MaskColumn, p.options.Extra = o.Reading, o.MaskColumn, extras
		p.options.HeldOut, p.options.Log = heldOut, &log
		p.options.NeedConditioning, p.options.NoCaptions = !without.conditions, without.captions
		if p.Dataset, err = data.Open(paths, p.options); err != nil {
			errs[k] = err
			continue
		}
		// Why a column is not there says the attempt that differs in it alone.
		if without.conditions {
			lacks = append(lacks, lack{o.ConditioningImageColumn, reasonText(errs[k-1])})
		}
		if without.captions {
			lacks = append(lacks, lack{o.CaptionColumn, reasonText(errs[k-2])})
		}
		p.opened = strings.TrimSpace(log.String())
		return p, lacks, nil
	}
	return part{}, nil, cmp.Or(errs[3], errs[2], errs[0])
}

// reasonText is an error as it is shown.
func reasonText(err error) string { return printable.Text(err.Error(), printable.LineLimit) }

// openHeldOut opens the held-out rows: those that are named, else the dataset's own split. It returns nil with the
// reason if there are none.
func openHeldOut(paths []string, o Options, train part) (p *part, missing string, err error) {
	named := len(o.ValidationData) > 0
	if named {
		paths = o.ValidationData
	}
	held, _, err := openWhatIsThere(paths, o, true)
	if err != nil && named {
		return nil, "", fmt.Errorf("validation_data_dir: %w", err)
	} else if err != nil {
		return nil, reasonText(err), nil
	}
	shared, err := held.Shares(train.Dataset)
	if err != nil || shared != "" {
		return nil, "", errors.Join(err, held.Close())
	}
	return &held, "", nil
}

// usualSide is the shorter side of most of a dataset's first images, at most 512.
func usualSide(d *data.Dataset) (int, error) {
	const most, first = 512, 64
	counts, best := map[int]int{}, 0
	for i := range min(d.Len(), first) {
		r, err := d.Row(i)
		if err != nil {
			continue // the check reports it
		}
		side := min(r.Image.Width, r.Image.Height, most)
		if counts[side]++; best == 0 || counts[side] > counts[best] {
			best = side
		}
	}
	if best == 0 {
		best = most
	}
	return best, nil
}
