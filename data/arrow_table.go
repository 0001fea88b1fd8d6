package data

import (
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"

	"limner/data/arrow"
	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/plaintext"
)

// arrowTable is an Arrow IPC stream with the columns that are read from it.
type arrowTable struct {
	name                   string
	f                      *os.File
	file                   *arrow.File
	root                   *root
	image, condition, mask *arrowImage
	caption                *arrow.Field
	extra                  []*arrow.Field
	sizes                  []group
	beside                 []string // files that cells name
}

// arrowImage is a column of images: structs of bytes and path, bytes, or paths.
type arrowImage struct {
	name               string
	whole, bytes, path *arrow.Field
}

// openArrow opens a file of the datasets library's save_to_disk.
func openArrow(name string, o Options) (table, error) {
	f, size, err := disk.OpenSize(name)
	if err != nil {
		return nil, err // names the path
	}
	t := &arrowTable{name: name, f: f}
	if t.file, err = arrow.Open(f, size); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	} else if t.root, err = newRoot(filepath.Dir(name), o.ImageRoot); err == nil {
		if err = t.find(o); err == nil {
			err = t.check()
		}
		if err == nil {
			err = t.findBeside()
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// find finds the columns that are read.
func (t *arrowTable) find(o Options) (err error) {
	for _, c := range []struct {
		name   string
		needed bool
		to     **arrowImage
	}{
		{o.ImageColumn, true, &t.image},
		{o.ConditioningImageColumn, o.readsConditioning(), &t.condition},
		{o.MaskColumn, o.MaskColumn != "", &t.mask},
	} {
		if c.needed {
			if *c.to, err = t.imageColumn(c.name); err != nil {
				return err
			}
		}
	}
	if !o.NoCaptions {
		t.caption = t.column(o.CaptionColumn)
		switch c := t.caption; {
		case c == nil:
			return t.missing(o.CaptionColumn)
		case c.Kind != arrow.String &&
			!(c.Kind == arrow.List && len(c.Children) == 1 && c.Children[0].Kind == arrow.String):
			return fmt.Errorf("%s: column %s is not text or a list of texts but %s", t.name, o.CaptionColumn, c)
		}
	}
	for _, name := range o.Extra {
		if c := t.column(name); c != nil {
			switch c.Kind {
			case arrow.String, arrow.Integer, arrow.Float, arrow.Bool:
				t.extra = append(t.extra, c)
			}
		}
	}
	return nil
}

// column is the column of a name; nil if there is none.
func (t *arrowTable) column(name string) *arrow.Field {
	for _, c := range t.file.Fields {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func (t *arrowTable) imageColumn(name string) (*arrowImage, error) {
	c := t.column(name)
	if c == nil {
		return nil, t.missing(name)
	}
	switch c.Kind {
	case arrow.Binary:
		return &arrowImage{name: name, bytes: c}, nil
	case arrow.String:
		return &arrowImage{name: name, path: c}, nil
	case arrow.Struct:
		m := &arrowImage{name: name, whole: c, bytes: c.Child("bytes"), path: c.Child("path")}
		if m.path != nil && m.path.Kind != arrow.String {
			m.path = nil
		}
		if m.bytes != nil && m.bytes.Kind == arrow.Binary {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s: column %s is no image: want struct<bytes: binary, path: string>, binary or paths, "+
		"got %s", t.name, name, c)
}

func (t *arrowTable) missing(name string) error {
	var have []string
	for _, c := range t.file.Fields {
		have = append(have, fmt.Sprintf("%s (%s)", c.Name, c))
	}
	return missingColumn(t.name, name, have)
}

// images are the columns of images that are read.
func (t *arrowTable) images() (list []*arrowImage) {
	for _, m := range []*arrowImage{t.image, t.condition, t.mask} {
		if m != nil {
			list = append(list, m)
		}
	}
	return list
}

// fields are the fields that are read.
func (t *arrowTable) fields() (fields []*arrow.Field) {
	for _, m := range t.images() {
		for _, f := range []*arrow.Field{m.bytes, m.path} {
			if f != nil {
				fields = append(fields, f)
			}
		}
	}
	if t.caption != nil {
		fields = append(fields, t.caption)
	}
	return append(fields, t.extra...)
}

// check checks that the batches have the rows that they claim.
func (t *arrowTable) check() error {
	for b, batch := range t.file.Batches {
		g := group{rows: batch.Rows, repeats: 1}
		for _, f := range t.fields() {
			if err := t.file.Check(b, f); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			g.bytes += t.file.Bytes(b, f)
		}
		t.sizes = append(t.sizes, g)
	}
	return nil
}

// findBeside finds the files that cells name in place of bytes.
func (t *arrowTable) findBeside() error {
	for _, m := range t.images() {
		paths, err := besides(t.name, t.sizes, func(b int) bool {
			return m.bytes == nil || m.path != nil && mayBeEmpty(t.file.Bytes(b, m.bytes), t.sizes[b].rows)
		}, func(batch int, first, count int64) []rawRow {
			rows := make([]rawRow, count)
			err := t.readImages(batch, m, first, rows, func(r *rawRow) *picture { return &r.image })
			for i := range rows {
				if err != nil {
					rows[i].fail(err)
				}
			}
			return rows
		})
		if err != nil {
			return err
		}
		t.beside = append(t.beside, paths...)
	}
	return nil
}

func (t *arrowTable) path() string    { return t.name }
func (t *arrowTable) groups() []group { return t.sizes }

// Close closes the file.
func (t *arrowTable) Close() error { return t.f.Close() }

func (t *arrowTable) describe() (columns, notes []string) {
	for _, c := range t.file.Fields {
		columns = append(columns, c.Name)
	}
	return columns, nil
}

func (t *arrowTable) fingerprint(h hash.Hash) error {
	t.file.Fingerprint(h)
	for _, e := range wholeFiles(t.beside) {
		fmt.Fprintf(h, "%q %d\n", relative(t.root.dir, e.path), e.size)
	}
	return nil
}

func (t *arrowTable) extents() (all []extent) {
	for b := range t.file.Batches {
		for _, f := range t.fields() {
			offset, size := t.file.Extent(b, f)
			all = append(all, extent{path: t.name, offset: offset, size: size})
		}
	}
	return append(all, wholeFiles(t.beside)...)
}

func (t *arrowTable) readRows(batch int, first, count int64) []rawRow {
	rows := make([]rawRow, count)
	all := func(name string, err error) {
		for i := range rows {
			rows[i].fail(fmt.Errorf("%s, record batch %d: %w", name, batch, err))
		}
	}
	for _, part := range []struct {
		column *arrowImage
		to     func(*rawRow) *picture
	}{
		{t.image, func(r *rawRow) *picture { return &r.image }},
		{t.condition, func(r *rawRow) *picture { return &r.condition }},
		{t.mask, func(r *rawRow) *picture { return &r.mask }},
	} {
		if part.column == nil {
			continue
		}
		if err := t.readImages(batch, part.column, first, rows, part.to); err != nil {
			all(part.column.name, err)
		}
	}
	if t.caption != nil {
		if err := t.addCaptions(batch, first, rows); err != nil {
			all(t.caption.Name, err)
		}
	}
	for _, f := range t.extra {
		values, err := t.file.Read(batch, f, first, count, maxCaption)
		if err != nil {
			all(f.Name, err)
		}
		for i, v := range values {
			if v.Size == 0 && !v.Null {
				rows[i].addExtra(f.Name, v.Text+strings.ToValidUTF8(string(v.Bytes), "\ufffd"))
			}
		}
	}
	return rows
}

// readImages reads a column of images.
func (t *arrowTable) readImages(batch int, m *arrowImage, first int64, rows []rawRow,
	to func(*rawRow) *picture) error {
	count := int64(len(rows))
	present := func(int) bool { return true }
	contents, paths := make([]arrow.Value, count), make([]arrow.Value, count)
	for i := range contents {
		contents[i].Null, paths[i].Null = true, true
	}
	var err error
	if m.whole != nil {
		if present, err = t.file.Present(batch, m.whole, first, count); err != nil {
			return err
		}
	}
	if m.bytes != nil {
		if contents, err = t.file.Read(batch, m.bytes, first, count, imaging.MaxFileBytes); err != nil {
			return err
		}
	}
	if m.path != nil {
		if paths, err = t.file.Read(batch, m.path, first, count, maxPath); err != nil {
			return err
		}
	}
	for i := range rows {
		cell := imageCell{column: m.name, null: !present(i), bytes: contents[i].Bytes, size: contents[i].Size}
		cell.noBytes = contents[i].Null
		if !paths[i].Null && paths[i].Size == 0 {
			cell.path = string(paths[i].Bytes)
		}
		var err error
		if *to(&rows[i]), err = cell.picture(t.root); err != nil {
			rows[i].fail(err)
		}
	}
	return nil
}

func (t *arrowTable) readCaptions(batch int, first, count int64) []rawRow {
	rows := make([]rawRow, count)
	if t.caption == nil {
		return rows
	}
	if err := t.addCaptions(batch, first, rows); err != nil {
		for i := range rows {
			rows[i].fail(err)
		}
	}
	return rows
}

// addCaptions reads the captions of rows.
func (t *arrowTable) addCaptions(batch int, first int64, rows []rawRow) error {
	lists := make([][]arrow.Value, len(rows))
	if t.caption.Kind == arrow.List {
		var err error
		if lists, err = t.file.ReadLists(batch, t.caption, first, int64(len(rows)), maxCaption); err != nil {
			return err
		}
	} else {
		values, err := t.file.Read(batch, t.caption, first, int64(len(rows)), maxCaption)
		if err != nil {
			return err
		}
		for i := range values {
			lists[i] = values[i : i+1]
		}
	}
	for i, list := range lists {
		if len(list) == 0 {
			rows[i].fail(fmt.Errorf("%s is null", t.caption.Name))
		}
		for _, v := range list {
			rows[i].addCaption(t.caption.Name, v.Bytes, v.Null, v.Size)
		}
	}
	return nil
}

// addCaption adds a caption, or keeps why it cannot be read.
func (r *rawRow) addCaption(column string, raw []byte, null bool, tooLong int64) {
	switch {
	case null:
		r.fail(fmt.Errorf("%s is null", column))
		return
	case tooLong > 0:
		r.fail(fmt.Errorf("%s: %d bytes: at most %d are read", column, tooLong, maxCaption))
		return
	case len(r.captions) == maxCaptions:
		r.fail(fmt.Errorf("%s: more than %d captions", column, maxCaptions))
		return
	}
	text, err := plaintext.Decode(raw)
	if err != nil {
		r.fail(fmt.Errorf("%s: %w", column, err))
		return
	}
	r.captions = append(r.captions, string(text))
}
