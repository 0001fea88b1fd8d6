// Package data turns files into batches: it reads image and caption columns of parquet files in a
// shuffled order that a seed fixes, decodes and resizes pictures as PIL and torchvision do, and
// writes synthetic data sets.
package data

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Options say what to read and how to batch it.
type Options struct {
	ImageColumn             string // column of training images
	ConditioningImageColumn string // column of conditioning images
	CaptionColumn           string // column of captions
	NeedConditioning        bool   // false: the conditioning column is not read and may be absent

	Resolution  int    // side in pixels of the batches' pictures; see Fit. Row does not need it
	BatchSize   int    // rows of a batch. Row does not need it
	Seed        uint64 // of the order
	Workers     int    // goroutines that decode
	BufferBytes int64  // of encoded rows held at once; a data set of more is shuffled piecewise, so this is part of what fixes the order
	Prefetch    int    // batches decoded ahead of the consumer
}

// DefaultOptions reads the columns by diffusers' example's names, on all cores.
func DefaultOptions() Options {
	return Options{
		ImageColumn: "image", ConditioningImageColumn: "conditioning_image", CaptionColumn: "text",
		NeedConditioning: true,
		Workers:          runtime.GOMAXPROCS(0),
		BufferBytes:      512 << 20,
		Prefetch:         3,
	}
}

// Validate reports every unusable field.
func (o Options) Validate() error {
	var errs []error
	for _, c := range []struct{ field, value string }{
		{"image_column", o.ImageColumn}, {"caption_column", o.CaptionColumn},
		{"conditioning_image_column", o.ConditioningImageColumn},
	} {
		if c.value == "" && (c.field != "conditioning_image_column" || o.NeedConditioning) {
			errs = append(errs, fmt.Errorf("%s is empty: name a column", c.field))
		}
	}
	if o.Resolution < 0 || o.Resolution > 8192 {
		errs = append(errs, fmt.Errorf("resolution %d: want 1 to 8192 pixels", o.Resolution))
	}
	if o.BatchSize < 0 {
		errs = append(errs, fmt.Errorf("batch size %d: want at least 1", o.BatchSize))
	}
	if o.Workers < 1 {
		errs = append(errs, fmt.Errorf("workers %d: want at least 1", o.Workers))
	}
	if o.Prefetch < 1 {
		errs = append(errs, fmt.Errorf("prefetch %d: want at least 1 batch", o.Prefetch))
	}
	if o.BufferBytes < 1 {
		errs = append(errs, fmt.Errorf("buffer of %d bytes: want at least 1", o.BufferBytes))
	}
	return errors.Join(errs...)
}

// Dataset is a set of open parquet files read as one table. Its methods may be called from several
// goroutines at once.
type Dataset struct {
	options Options
	shards  []*shard
	columns []columns // of each shard
	pieces  []piece
	rows    int64
	limit   int64 // bytes of a bucket
	cache   *pieceCache

	mu     sync.Mutex
	bad    map[int64]string // reason by row
	orders []*epochOrder    // of the latest epochs
}

// Open opens parquet files. A path that is a folder stands for its train-*.parquet files, else
// all its *.parquet files, or those of its subfolder data, in the order of their names. Only footers
// are read; it fails if a file lacks a needed column, naming those it has.
func Open(paths []string, o Options) (*Dataset, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("data options: %w", err)
	}
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	d := &Dataset{options: o, bad: map[int64]string{}}
	for _, path := range files {
		if err := d.add(path); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	if d.rows == 0 {
		return nil, errors.Join(fmt.Errorf("%s: no rows", strings.Join(files, ", ")), d.Close())
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

// add opens one file and appends its row groups.
func (d *Dataset) add(path string) error {
	s, err := openShard(path)
	if err != nil {
		return err
	}
	d.shards = append(d.shards, s)
	c, err := s.columns(d.options)
	if err != nil {
		return err
	}
	d.columns = append(d.columns, c)
	needed := []int{c.image.index, c.caption.index}
	if c.condition != nil {
		needed = append(needed, c.condition.index)
	}
	groups := s.file.Metadata().RowGroups
	for g := range groups {
		p := piece{shard: len(d.shards) - 1, group: g, rows: groups[g].NumRows, start: d.rows}
		for _, column := range needed {
			if column >= len(groups[g].Columns) {
				return fmt.Errorf("%s: row group %d has %d columns, the schema more: damaged", path, g, len(groups[g].Columns))
			}
			meta := &groups[g].Columns[column].MetaData
			if meta.NumValues != p.rows {
				return fmt.Errorf("%s: row group %d has %d rows, its column %s %d values: damaged", path, g, p.rows, strings.Join(meta.PathInSchema, "."), meta.NumValues)
			}
			p.bytes += meta.TotalUncompressedSize
		}
		if p.rows > 0 {
			d.pieces = append(d.pieces, p)
			d.rows += p.rows
		}
	}
	return nil
}

// expand replaces folders by the parquet files in them.
func expand(paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("no data files given: name parquet files, or a folder of them")
	}
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("open data: %w", err)
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		found, err := parquetIn(path)
		if err != nil {
			return nil, fmt.Errorf("open data: %w", err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s holds no *.parquet files", path)
		}
		files = append(files, found...)
	}
	return files, nil
}

func parquetIn(dir string) ([]string, error) {
	for _, folder := range []string{dir, filepath.Join(dir, "data")} {
		entries, err := os.ReadDir(folder)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var all, train []string
		for _, e := range entries { // sorted by name
			if e.IsDir() || filepath.Ext(e.Name()) != ".parquet" {
				continue
			}
			all = append(all, filepath.Join(folder, e.Name()))
			if strings.HasPrefix(e.Name(), "train-") {
				train = append(train, filepath.Join(folder, e.Name()))
			}
		}
		if len(train) > 0 {
			return train, nil
		}
		if len(all) > 0 {
			return all, nil
		}
	}
	return nil, nil
}

// Len is the number of rows, usable or not.
func (d *Dataset) Len() int { return int(d.rows) }

// StepsPerEpoch is the number of whole batches in an epoch; the rows left over are dropped, other
// ones in every epoch.
func (d *Dataset) StepsPerEpoch() int {
	if d.options.BatchSize < 1 {
		return 0
	}
	return int(d.rows / int64(d.options.BatchSize))
}

// Close closes the files. Batches must be closed before.
func (d *Dataset) Close() error {
	var errs []error
	for _, s := range d.shards {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// loadPiece reads the rows of a piece.
func (d *Dataset) loadPiece(index int) []rawRow {
	p := d.pieces[index]
	return d.shards[p.shard].readRows(p.group, d.columns[p.shard], p.first, p.rows)
}

// epochOrder returns the order of an epoch; those of the latest two are kept, as workers cross from
// one to the next.
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
