// Package data turns datasets into batches: it reads images and captions from parquet files and folders in a shuffled
// order that a seed determines, and resizes the images to one resolution.
package data

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"limner/controlnet/condition"
	"limner/data/imaging"
	"limner/internal/settings"
)

// MaxResolution is the largest side of a batch's pictures, in pixels.
const MaxResolution = 8192

// Reading says what is read of the rows and how they become images: flags of limner train.
type Reading struct {
	ImageColumn             string `json:"image_column" default:"image" help:"Column of the images." resume:"same"`
	ConditioningImageColumn string `json:"conditioning_image_column" default:"conditioning_image" help:"Column of the conditioning images." resume:"same"`
	CaptionColumn           string `json:"caption_column" default:"text" help:"Column of the captions." resume:"same"`
	Split                   string `json:"split,omitempty" placeholder:"NAME" help:"Split to train on, where files or folders are of several; without it, train." resume:"same"`
	DatasetConfigName       string `json:"dataset_config_name,omitempty" placeholder:"NAME" help:"Configuration to train on, where a dataset has folders of several." resume:"same"`
	ImageRoot               string `json:"image_root,omitempty" placeholder:"DIR" help:"Folder below which the images lie that cells and metadata name; without it, that of the file that names them. Links may lead there, too." resume:"free"`
	ConditioningDataDir     string `json:"conditioning_data_dir,omitempty" placeholder:"DIR" help:"Folder of the conditioning images of a folder of images, which have the images' names." resume:"free"`
	ClassCaptions           bool   `json:"class_captions,omitempty" help:"Caption an image that has no caption by the name of its folder." resume:"same"`
	ShuffleTags             bool   `json:"shuffle_tags,omitempty" help:"Shuffle what commas separate in a caption, anew in each epoch." resume:"same"`
	KeepTokens              int    `json:"keep_tokens,omitempty" placeholder:"N" help:"Leave the first N tags of --shuffle_tags where they are." resume:"same"`
	RandomCrop              bool   `json:"random_crop" kong:"-" resume:"same"` // along the long side, not at its centre
	RandomFlip              bool   `json:"random_flip" help:"Turn every other image around, its conditioning image and mask too." resume:"same"`
	ForceFlip               bool   `json:"force_flip,omitempty" help:"Turn images around even where captions say left or right, or the condition tells them apart." resume:"free"`
	Background              string `json:"background" placeholder:"COLOUR" help:"Colour behind pictures that are not opaque: a CSS name or #RRGGBB. Without it alpha is dropped, as by Pillow." resume:"same"`
	// Interpolation is the filter that images and conditioning images are resized by; "" is Bilinear.
	Interpolation   imaging.Filter `json:"image_interpolation_mode" name:"image-interpolation-mode" placeholder:"FILTER" help:"Filter of Pillow that resizes images: bilinear, bicubic, lanczos, nearest, box or hamming; without it, that of diffusers' script." resume:"same"`
	MaxTrainSamples int            `json:"max_train_samples" placeholder:"N" help:"Train on the first N rows only." resume:"same"`
	Workers         int            `json:"-" name:"dataloader-num-workers" placeholder:"N" help:"Goroutines that decode images; without it, one for each core."`
	// BufferBytes are those of encoded rows held at once; more are shuffled piecewise: it is part of the order.
	BufferBytes int64 `json:"shuffle_buffer_bytes" kong:"-" default:"536870912" resume:"same"`
}

// DefaultReading reads the columns by the names of diffusers' example.
func DefaultReading() Reading { return settings.Default[Reading]() }

// Options say what to read and how to batch it.
type Options struct {
	Reading
	MaskColumn       string // column of masks; "" reads none
	NeedConditioning bool   // false: there are no conditioning images, and the conditioning column may be absent
	Condition        string // condition.Parse's text, to take conditioning images from the images; "": read the column
	KeypointsColumn  string // column of keypoints, in OpenPose's JSON, for conditions that are drawn from them
	NoCaptions       bool   // the caption column is not read and may be absent
	HeldOut          bool   // read the validation rows: of a folder with splits, validation's, else test's
	// Extra names further columns for Row.Extra: of texts, numbers and truth values. What a file lacks is left out.
	Extra []string

	Resolution  int    // side in pixels of the batches' images; see Fit. Row ignores it
	BatchSize   int    // rows of a batch. Row ignores it
	Part, Parts int    // read only part Part of Parts equal parts of each batch; 0 parts are one
	Seed        uint64 // of the order
	Prefetch    int    // batches decoded ahead of the consumer

	Log io.Writer // what is read, and once each what images lose; nil: no log
}

// DefaultOptions reads images, conditioning images and captions, on all cores.
func DefaultOptions() Options {
	return Options{Reading: DefaultReading(), NeedConditioning: true, Prefetch: 3}
}

// Validate reports every unusable field.
func (o Options) Validate() error {
	var errs []error
	for _, c := range []struct{ field, value string }{
		{"image_column", o.ImageColumn}, {"caption_column", o.CaptionColumn},
		{"conditioning_image_column", o.ConditioningImageColumn},
	} {
		unused := c.field == "conditioning_image_column" && !o.readsConditioning() ||
			c.field == "caption_column" && o.NoCaptions
		if c.value == "" && !unused {
			errs = append(errs, fmt.Errorf("%s is empty: name a column", c.field))
		}
	}
	if _, err := imaging.NewDecoding(o.Background); err != nil {
		errs = append(errs, err)
	}
	if err := o.filter().Check(); err != nil {
		errs = append(errs, fmt.Errorf("image_interpolation_mode: %w", err))
	}
	if taken, err := o.condition(); err != nil {
		errs = append(errs, err)
	} else if !taken.None() && taken.Kind().Keypoints {
		if o.KeypointsColumn == "" {
			errs = append(errs, fmt.Errorf("keypoints_column is empty: name the column that %s is drawn from", taken))
		}
		if o.RandomFlip && !o.ForceFlip {
			errs = append(errs, fmt.Errorf("random_flip: left and right have colours of their own in %s, "+
				"which a flip would exchange: leave it out, or give --force_flip too", taken))
		}
	}
	if o.ForceFlip && !o.RandomFlip {
		errs = append(errs, errors.New("force_flip: it goes with --random_flip, which was not given"))
	}
	if o.Resolution < 0 || o.Resolution > MaxResolution {
		errs = append(errs, fmt.Errorf("resolution %d: want 1 to %d pixels", o.Resolution, MaxResolution))
	}
	if o.BatchSize < 0 {
		errs = append(errs, fmt.Errorf("batch size %d: want at least 1", o.BatchSize))
	}
	if o.Parts < 0 || o.Part < 0 || o.Part >= max(1, o.Parts) || o.BatchSize%max(1, o.Parts) != 0 {
		errs = append(errs, fmt.Errorf("part %d of %d of a batch of %d: want one of equal parts",
			o.Part, o.Parts, o.BatchSize))
	}
	const mostWorkers = 1024
	if o.Workers < 0 || o.Workers > mostWorkers {
		errs = append(errs, fmt.Errorf("workers %d: want 1 to %d", o.Workers, mostWorkers))
	}
	if err := o.checkTags(); err != nil {
		errs = append(errs, err)
	}
	if o.MaxTrainSamples < 0 {
		errs = append(errs, fmt.Errorf("max_train_samples %d: want at least 1 row", o.MaxTrainSamples))
	}
	if o.Prefetch < 1 {
		errs = append(errs, fmt.Errorf("prefetch %d: want at least 1 batch", o.Prefetch))
	}
	if o.BufferBytes < 1 {
		errs = append(errs, fmt.Errorf("buffer of %d bytes: want at least 1", o.BufferBytes))
	}
	return errors.Join(errs...)
}

// readsConditioning says whether conditioning images are read from a column.
func (o Options) readsConditioning() bool { return o.NeedConditioning && o.Condition == "" }

// condition is the condition that is taken from the images, if one is.
func (o Options) condition() (condition.Spec, error) {
	if !o.NeedConditioning || o.Condition == "" {
		return condition.Spec{}, nil
	}
	return condition.Parse(o.Condition)
}

// Dataset is a set of open parquet files and folders of images read as one table. Its methods may be called from
// several goroutines at once.
type Dataset struct {
	options  Options
	decoding imaging.Decoding
	taken    condition.Spec // from the images
	tables   []table
	others   []Split // of files that were passed over
	pieces   []piece
	class    *Dataset // whose rows fill the second half of each batch; nil: none
	rows     int64
	empty    []string // paths without rows
	places   int64    // of rows in an epoch: those that repeat have several
	limit    int64    // bytes of a bucket
	cache    *pieceCache

	mu     sync.Mutex
	bad    map[int64]string      // reason by row
	orders []*epochOrder         // of the latest epochs
	noted  map[imaging.Note]bool // what was logged
	turned bool                  // that a caption was made wrong by a flip was logged
}

// table is a source of rows, which are in groups.
type table interface {
	path() string
	groups() []group
	// readRows reads count rows of a group, from row first. Rows that cannot be read carry the reason.
	readRows(group int, first, count int64) []rawRow
	// readCaptions is readRows of the captions alone.
	readCaptions(group int, first, count int64) []rawRow
	fingerprint(h hash.Hash) error
	extents() []extent
	// describe lists the columns, and notes for the log.
	describe() (columns, notes []string)
	Close() error
}

// group is the unit that a table can read by itself.
type group struct {
	rows, bytes int64
	repeats     int64 // how often its rows are in an epoch
}

// Open opens files, folders and patterns of files in any layout that findSource tells; of several splits, train or,
// with HeldOut, validation, else test. Footers, lists of files and the first rows are read. Open fails if a file lacks
// a needed column, naming those it has, if in none of the first rows the images have the shape of what is cropped with
// them, and if RandomFlip would make captions wrong. It logs what is read, and what in a folder is not.
func Open(paths []string, o Options) (*Dataset, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("data options: %w", err)
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if len(paths) == 0 {
		return nil, errors.New("no data files given: name parquet files, or a folder of them or of images")
	}
	decoding, err := imaging.NewDecoding(o.Background)
	if err != nil {
		return nil, err
	}
	taken, err := o.condition()
	if err != nil {
		return nil, err
	}
	if !taken.None() && taken.Kind().Keypoints {
		o.Extra = append(slices.Clone(o.Extra), o.KeypointsColumn)
	}
	d := &Dataset{options: o, decoding: decoding, taken: taken, bad: map[int64]string{}, noted: map[imaging.Note]bool{}}
	for _, path := range paths {
		if err := d.open(path); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	if d.rows == 0 {
		return nil, errors.Join(fmt.Errorf("%s: no rows", strings.Join(d.empty, ", ")), d.Close())
	}
	if err := errors.Join(d.checkShapes(), d.checkFlips()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	var total int64
	for _, p := range d.pieces {
		total += p.bytes
	}
	d.limit = total
	if total > o.BufferBytes {
		// Two buckets at a time: the one being read and the one that follows.
		d.limit = max(o.BufferBytes/2, 1)
		groups := d.pieces
		d.pieces = nil
		for _, g := range groups {
			d.pieces = append(d.pieces, splitGroup(g, d.limit)...)
		}
	}
	d.cache = newPieceCache(o.BufferBytes, d.loadPiece)
	return d, nil
}

// open adds the tables of a path.
func (d *Dataset) open(path string) error {
	s, err := findSource(path, d.options)
	if err != nil {
		return err
	}
	tables, err := s.open(d.options)
	if err != nil {
		return err
	}
	before := d.rows
	for _, t := range tables {
		d.add(t)
	}
	if d.rows == before {
		d.empty = append(d.empty, fmt.Sprintf("%s (%s)", path, someNames(s.files)))
	}
	for _, name := range s.passed {
		if split := splitOf(name); split != "" && !slices.Contains(d.others, split) {
			d.others = append(d.others, split)
		}
	}
	if d.options.Log == nil {
		return nil
	}
	what := "training data"
	if d.options.HeldOut {
		what = "held-out data"
	}
	line, err := s.describe(tables, d.rows-before)
	if err != nil {
		return fmt.Errorf("open data: %w", err)
	}
	fmt.Fprintf(d.options.Log, "%s: %s\n", what, line)
	return nil
}

// Columns lists the columns that the files have, read or not, as far as files have columns.
func (d *Dataset) Columns() (names []string) {
	for _, t := range d.tables {
		columns, _ := t.describe()
		names = append(names, columns...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// OtherSplits lists the splits of files that were passed over because another one is read.
func (d *Dataset) OtherSplits() []Split { return slices.Clone(d.others) }

// Shares returns a file, or a folder of images, that both datasets read; "" if there is none.
func (d *Dataset) Shares(other *Dataset) (string, error) {
	own, err := d.stat()
	if err != nil {
		return "", err
	}
	others, err := other.stat()
	if err != nil {
		return "", err
	}
	for i, info := range own {
		if slices.ContainsFunc(others, func(o os.FileInfo) bool { return os.SameFile(info, o) }) {
			return d.tables[i].path(), nil
		}
	}
	return "", nil
}

// stat returns the file information of every table.
func (d *Dataset) stat() ([]os.FileInfo, error) {
	infos := make([]os.FileInfo, len(d.tables))
	for i, t := range d.tables {
		var err error
		if infos[i], err = os.Stat(t.path()); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// add appends the rows of a table.
func (d *Dataset) add(t table) {
	d.tables = append(d.tables, t)
	for i, g := range t.groups() {
		if limit := int64(d.options.MaxTrainSamples); limit > 0 && !d.options.HeldOut && d.rows+g.rows > limit {
			rows := limit - d.rows
			g.rows, g.bytes = rows, g.bytes*rows/g.rows
		}
		if g.rows > 0 {
			p := piece{table: len(d.tables) - 1, group: i, rows: g.rows, start: d.rows, bytes: g.bytes}
			p.repeats = g.repeats
			d.pieces = append(d.pieces, p)
			d.rows += g.rows
			d.places += g.rows * g.repeats
		}
	}
}

// Len is the number of rows, usable or not.
func (d *Dataset) Len() int {
	if d.class != nil {
		return int(d.rows + d.class.rows)
	}
	return int(d.rows)
}

// perBatch is the number of the dataset's own rows in a batch.
func (d *Dataset) perBatch() int {
	if d.class != nil {
		return d.options.BatchSize / 2
	}
	return d.options.BatchSize
}

// StepsPerEpoch is the number of whole batches in an epoch; the rows left over, different ones in every epoch, are
// dropped. Rows that a folder's name repeats count as often; those of the class do not count.
func (d *Dataset) StepsPerEpoch() int {
	if d.perBatch() < 1 {
		return 0
	}
	return int(d.places / int64(d.perBatch()))
}

// Close closes the files. Batches must be closed before.
func (d *Dataset) Close() error {
	var errs []error
	for _, t := range d.tables {
		errs = append(errs, t.Close())
	}
	if d.class != nil {
		errs = append(errs, d.class.Close())
	}
	return errors.Join(errs...)
}

// loadPiece reads the rows of a piece.
func (d *Dataset) loadPiece(index int) []rawRow {
	p := d.pieces[index]
	return d.tables[p.table].readRows(p.group, p.first, p.rows)
}

// epochOrder returns the order of an epoch; those of the latest two are kept, since workers are in both when one ends.
func (d *Dataset) epochOrder(epoch int) *epochOrder {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(d.orders, func(o *epochOrder) bool { return o.epoch == epoch }); i >= 0 {
		return d.orders[i]
	}
	o := newEpochOrder(d.pieces, d.options.Seed, epoch, d.limit)
	d.orders = append(d.orders, o)
	if len(d.orders) > 2 {
		d.orders = d.orders[1:]
	}
	return o
}
