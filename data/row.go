package data

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"

	"limner/data/imaging"
)

// Row is a decoded row at its own size.
type Row struct {
	Image        *imaging.RGB
	Conditioning *imaging.RGB // of the column; nil where none is read
	Mask         *imaging.RGB // nil without MaskColumn
	Encoded      Encoded
	Notes        []ColumnNote // what the pictures lost when they were decoded
	Caption      string
	Captions     []string          // all of the row, of which Caption is the first; in a batch one is drawn
	Extra        map[string]string // the columns of Options.Extra that the row has, as text
	depth        *imaging.Gray16   // the conditioning image, where it is of 16-bit gray
	hidden       []bool            // pixels of the conditioning image that are hidden; nil: none
}

// Encoded are the image files that the pictures of a row were decoded from.
type Encoded struct{ Image, Conditioning, Mask []byte }

// ColumnNote says what the picture of a column lost.
type ColumnNote struct {
	Column string
	Note   imaging.Note
}

// BadRow names a row that cannot be used.
type BadRow struct {
	File   string // its base name
	Row    int64  // within the file, from 0
	Reason string
}

// String names the row and the reason.
func (b BadRow) String() string { return fmt.Sprintf("%s row %d: %s", b.File, b.Row, b.Reason) }

// Report lists what reading has found so far.
type Report struct {
	Rows int      // of the dataset
	Bad  []BadRow // in the order of the files
}

// Report lists the bad rows found so far. Batches are decoded ahead, so some may belong to batches that Next has not
// returned yet.
func (d *Dataset) Report() Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := make([]int64, 0, len(d.bad))
	for row := range d.bad {
		rows = append(rows, row)
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i] < rows[j] })
	r := Report{Rows: d.Len(), Bad: make([]BadRow, len(rows))}
	for i, row := range rows {
		r.Bad[i] = d.name(row, d.bad[row])
	}
	if d.class != nil {
		r.Bad = append(r.Bad, d.class.Report().Bad...)
	}
	return r
}

// name gives the file of a row of the dataset.
func (d *Dataset) name(row int64, reason string) BadRow {
	table := d.pieces[d.pieceOf(row)].table
	first := sort.Search(len(d.pieces), func(i int) bool { return d.pieces[i].table >= table })
	return BadRow{File: filepath.Base(d.tables[table].path()), Row: row - d.pieces[first].start, Reason: reason}
}

// Workers is how many goroutines decode pictures.
func (d *Dataset) Workers() int { return d.options.Workers }

// Bytes is how many bytes of files the rows take, of the columns that are read.
func (d *Dataset) Bytes() (sum int64) {
	for _, t := range d.allTables() {
		for _, e := range t.extents() {
			sum += e.size
		}
	}
	return sum
}

// pieceOf finds the piece that holds a row of the dataset.
func (d *Dataset) pieceOf(row int64) int {
	return sort.Search(len(d.pieces), func(i int) bool { return d.pieces[i].start > row }) - 1
}

// Row reads and decodes row i, in the order of the files. It fails if the row is bad; what could be read of it is
// returned with the error.
func (d *Dataset) Row(i int) (Row, error) {
	if d.class != nil && int64(i) >= d.rows {
		return d.class.Row(i - int(d.rows))
	}
	if i < 0 || int64(i) >= d.rows {
		return Row{}, fmt.Errorf("row %d: the dataset has %d rows", i, d.rows)
	}
	index := d.pieceOf(int64(i))
	p := d.pieces[index]
	r, err := d.decode(int64(i), d.cache.get(index, p.bytes)[int64(i)-p.start], false)
	if err != nil {
		d.markBad(int64(i), err)
		file, at, _ := d.Origin(i)
		return r, fmt.Errorf("%s row %d: %w", file, at, err)
	}
	return r, nil
}

// Origin says where row i comes from: the base name of its file, its place there, from 0, and of images that are files
// themselves the image's name within the folder, else "".
func (d *Dataset) Origin(i int) (file string, row int64, image string) {
	if d.class != nil && int64(i) >= d.rows {
		return d.class.Origin(i - int(d.rows))
	}
	named := d.name(int64(i), "")
	if l, ok := d.tables[d.pieces[d.pieceOf(int64(i))].table].(*listing); ok {
		image = l.rows[named.Row].image.name
	}
	return named.File, named.Row, image
}

// Map yields what f makes of each row, in the order of the files, with the row's index. Workers goroutines call f with
// the results of [Dataset.Row], up to Prefetch batches ahead of the loop.
func Map[T any](d *Dataset, f func(r Row, err error) T) iter.Seq2[int, T] {
	all := make([]int, d.Len())
	for i := range all {
		all[i] = i
	}
	return MapRows(d, all, func(_ int, r Row, err error) T { return f(r, err) })
}

// MapRows is [Map] for some of the rows, in their order, with the index of each for f.
func MapRows[T any](d *Dataset, rows []int, f func(i int, r Row, err error) T) iter.Seq2[int, T] {
	return func(yield func(int, T) bool) {
		workers := d.options.Workers
		ahead := make(chan chan T, max(workers, d.options.Prefetch*d.options.BatchSize))
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			defer close(ahead)
			var group errgroup.Group
			group.SetLimit(workers)
			defer group.Wait()
			for _, i := range rows {
				result := make(chan T, 1)
				select {
				case ahead <- result:
				case <-stop:
					return
				}
				group.Go(func() error {
					r, err := d.Row(i)
					result <- f(i, r, err)
					return nil
				})
			}
		}()
		defer func() {
			close(stop)
			<-stopped
		}()
		at := 0
		for result := range ahead {
			if !yield(rows[at], <-result) {
				return
			}
			at++
		}
	}
}

// decode decodes the pictures of a row of the dataset, up to the first that cannot be decoded. For batches, a
// conditioning image of 16-bit gray keeps all of its bits.
func (d *Dataset) decode(row int64, raw rawRow, forBatch bool) (r Row, err error) {
	if r.Captions, r.Extra = raw.captions, raw.extra; len(r.Captions) > 0 {
		r.Caption = r.Captions[0]
	}
	if raw.err != nil {
		return r, raw.err
	}
	for _, part := range []struct {
		column string
		needed bool
		raw    picture
		file   *[]byte
		to     **imaging.RGB
	}{
		{d.options.ImageColumn, true, raw.image, &r.Encoded.Image, &r.Image},
		{
			d.options.ConditioningImageColumn, d.options.readsConditioning(), raw.condition,
			&r.Encoded.Conditioning, &r.Conditioning,
		},
		{d.options.MaskColumn, d.options.MaskColumn != "", raw.mask, &r.Encoded.Mask, &r.Mask},
	} {
		if !part.needed {
			continue
		}
		var m *imaging.RGB
		var notes []imaging.Note
		raw, err := part.raw.content()
		if err == nil {
			m, notes, err = d.decoding.Decode(raw)
		}
		if err == nil && forBatch && part.to == &r.Conditioning && slices.Contains(notes, imaging.NoteGray16) {
			r.depth, notes, err = decodeDepth(raw)
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", part.column, err)
		}
		*part.file, *part.to = raw, m
		for _, note := range notes {
			r.Notes = append(r.Notes, ColumnNote{part.column, note})
		}
		d.note(row, part.column, notes)
	}
	return r, nil
}

// decodeDepth decodes a conditioning image of 16-bit gray.
func decodeDepth(raw []byte) (*imaging.Gray16, []imaging.Note, error) {
	depth, err := imaging.DecodeGray16(raw)
	if err == nil && depth.Max() < 1<<8 {
		return depth, []imaging.Note{imaging.NoteDark16}, nil
	}
	return depth, nil, err
}

// note logs what a row's image lost, once for each kind of loss.
func (d *Dataset) note(row int64, column string, notes []imaging.Note) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, note := range notes {
		if !d.noted[note] && d.options.Log != nil {
			fmt.Fprintf(d.options.Log, "%s (said once)\n", d.name(row, fmt.Sprintf("%s: %s", column, note)))
		}
		d.noted[note] = true
	}
}

func (d *Dataset) markBad(row int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad[row] = err.Error()
}

func (d *Dataset) isBad(row int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, bad := d.bad[row]
	return bad
}

// fitted is the row at a position of an epoch, decoded and fitted to the resolution. A bad row is replaced by the next
// good one of the epoch's order, which continues from its start after its end.
func (d *Dataset) fitted(ctx context.Context, order *epochOrder, position int64) (int64, Row, View, error) {
	for i := range d.places {
		if err := ctx.Err(); err != nil {
			return 0, Row{}, View{}, err
		}
		index, within, repetition := order.at((position + i) % d.places)
		p := d.pieces[index]
		row := p.start + within
		if d.isBad(row) {
			continue
		}
		r, err := d.decode(row, d.cache.get(index, p.bytes)[within], true)
		var view View
		if err == nil {
			at := occurrence{row: row, epoch: order.epoch, repetition: repetition}
			d.drawCaption(&r, at)
			view, err = d.fit(&r, at)
		}
		if err == nil {
			if view.Flipped && !d.options.ForceFlip {
				d.noteFlip(row, r.Caption)
			}
			return row, r, view, nil
		}
		d.markBad(row, err)
	}
	report := d.Report()
	return 0, Row{}, View{}, fmt.Errorf("all %d rows are bad, the first: %s", report.Rows, report.Bad[0])
}
