package data

import (
	"archive/zip"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"

	"limner/data/imaging"
	"limner/internal/plaintext"
)

// Limits of the texts of a dataset, in bytes. CLIP reads a few hundred of a caption.
const (
	maxCaption  = 64 << 10
	maxCaptions = 1000    // of a row
	maxLine     = 1 << 20 // of a metadata file
	maxMetadata = 1 << 30
)

// maxMember is the largest picture that is read of an archive: a compressed one says its size itself.
const maxMember = 256 << 20

// listing is a table whose rows were listed when it was opened: their pictures and texts lie in files or archives.
type listing struct {
	dir     string // or the archive
	options Options
	rows    []listedRow
	columns []string // that are read
	notes   []string // for the log
	used    map[string]bool
	archive []io.Closer
}

// listedRow says where the parts of a row lie.
type listedRow struct {
	image           place
	condition, mask *place
	captions        []string
	text, fields    *place            // of captions in an archive: a text, and an object of JSON
	extra           map[string]string // the columns of Options.Extra that the row has
	repeats         int64
}

// place is where the bytes of a picture or a text lie.
type place struct {
	name   string // within the listing's folder or archive
	path   string // of the file
	size   int64
	offset int64       // within the archive
	tar    io.ReaderAt // of an archive that is not compressed
	zip    *zip.File
}

// read reads the bytes.
func (p place) read() ([]byte, error) {
	switch {
	case p.tar != nil:
		content := make([]byte, p.size)
		if _, err := p.tar.ReadAt(content, p.offset); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", p.path, p.name, err)
		}
		return content, nil
	case p.zip != nil:
		content, err := readMember(p.zip)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", p.path, p.name, err)
		}
		return content, nil
	}
	return imaging.ReadFile(p.path)
}

// readMember reads a file of a zip archive, whose size was checked; the archive may say another.
func readMember(member *zip.File) ([]byte, error) {
	r, err := member.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content := make([]byte, member.UncompressedSize64)
	if _, err := io.ReadFull(r, content); err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) { // the end compares the checksum
		return nil, fmt.Errorf("damaged: more than the %d bytes that the archive says (%w)", len(content), err)
	}
	return content, nil
}

// extent is where the bytes lie in the file.
func (p place) extent() extent {
	e := extent{path: p.path, offset: p.offset, size: p.size}
	if p.zip != nil {
		e.size = int64(p.zip.CompressedSize64)
	}
	return e
}

// parts are the places of a row, pictures first.
func (r *listedRow) parts() []place {
	parts := []place{r.image}
	for _, p := range []*place{r.condition, r.mask, r.text, r.fields} {
		if p != nil {
			parts = append(parts, *p)
		}
	}
	return parts
}

func (r *listedRow) bytes() (sum int64) {
	for _, p := range r.parts() {
		sum += p.size
	}
	return sum
}

// addExtra keeps a further column.
func (r *listedRow) addExtra(name, text string) {
	if r.extra == nil {
		r.extra = map[string]string{}
	}
	r.extra[name] = text
}

// addRow appends a row; it fails for captions that are too long.
func (l *listing) addRow(row listedRow) error {
	if err := checkCaptions(row.captions); err != nil {
		return err
	}
	row.repeats = max(row.repeats, 1)
	l.rows = append(l.rows, row)
	return nil
}

// checkCaptions fails for texts that are too long for captions, and for too many.
func checkCaptions(captions []string) error {
	if len(captions) > maxCaptions {
		return fmt.Errorf("%d captions: at most %d are read", len(captions), maxCaptions)
	}
	for _, caption := range captions {
		if size := len(caption); size > maxCaption {
			return fmt.Errorf("a caption of %d bytes: at most %d are read", size, maxCaption)
		}
	}
	return nil
}

func (l *listing) path() string { return l.dir }

func (l *listing) describe() (columns, notes []string) { return l.columns, l.notes }

// Close closes the archives.
func (l *listing) Close() error {
	var errs []error
	for _, f := range l.archive {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// groups has one group for each image, so that files are read as they are needed.
func (l *listing) groups() []group {
	groups := make([]group, len(l.rows))
	for i, row := range l.rows {
		groups[i] = group{rows: 1, bytes: row.bytes(), repeats: row.repeats}
	}
	return groups
}

func (l *listing) readRows(index int, _, _ int64) []rawRow {
	row := l.rows[index]
	raw := rawRow{captions: row.captions, extra: row.extra}
	for _, part := range []struct {
		place *place
		to    *picture
	}{{&row.image, &raw.image}, {row.condition, &raw.condition}, {row.mask, &raw.mask}} {
		if part.place == nil {
			continue
		}
		var err error
		if part.to.bytes, err = part.place.read(); err != nil {
			raw.fail(err)
		}
	}
	l.readTexts(&raw, row)
	return []rawRow{raw}
}

func (l *listing) readCaptions(index int, _, _ int64) []rawRow {
	raw := rawRow{captions: l.rows[index].captions}
	l.readTexts(&raw, l.rows[index])
	return []rawRow{raw}
}

// readTexts reads the captions that lie in an archive.
func (l *listing) readTexts(raw *rawRow, row listedRow) {
	if row.text != nil {
		raw.readText(*row.text)
	}
	if row.fields != nil {
		raw.readFields(*row.fields, l.options)
	}
}

// readText reads a caption from an archive.
func (r *rawRow) readText(p place) {
	raw, err := p.read()
	if err == nil {
		if raw, err = plaintext.Decode(raw); err != nil {
			err = fmt.Errorf("%s, %s: %w", p.path, p.name, err)
		}
	}
	if err != nil {
		r.fail(err)
		return
	}
	r.captions = []string{firstLine(string(raw))}
}

// fingerprint hashes names, sizes and captions.
func (l *listing) fingerprint(h hash.Hash) error {
	for _, row := range l.rows {
		caption, names := "", []string{}
		if len(row.captions) > 0 {
			caption = row.captions[0]
		}
		for _, p := range row.parts() {
			names = append(names, p.name)
		}
		fmt.Fprintf(h, "%q %q %d\n", names, caption, row.bytes())
		if len(row.captions) > 1 {
			fmt.Fprintf(h, "%q\n", row.captions[1:])
		}
		if row.repeats > 1 {
			fmt.Fprintf(h, "%d times\n", row.repeats)
		}
	}
	return nil
}

// extents are those of pictures, and of texts in archives; other texts are part of the fingerprint.
func (l *listing) extents() []extent {
	var all []extent
	for _, row := range l.rows {
		for _, p := range row.parts() {
			all = append(all, p.extent())
		}
	}
	return all
}

// firstOf joins the first errors of many.
func firstOf(errs []error) error {
	const shown = 5
	if more := len(errs) - shown; more > 0 {
		errs = append(errs[:shown:shown], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// relative is a path within dir, for messages and the fingerprint.
func relative(dir, path string) string {
	if name, err := filepath.Rel(dir, path); err == nil {
		return name
	}
	return path
}
