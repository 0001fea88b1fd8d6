package data

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/plaintext"
)

// Names that files of a WebDataset have in place of the columns' default names, the first that is there.
var (
	defaultConditions = []string{"conditioning_image", "cond", "conditioning", "condition", "control", "hint", "source"}
	defaultCaptions   = []string{"txt", "text", "caption"}
)

// sample is a run of files of a WebDataset's archive with the same key.
type sample struct {
	key   string
	files map[string]place // by extension
}

// openWebDataset lists the samples of an archive in the WebDataset format: files that follow each other and whose paths
// are equal up to the first dot of their names. What follows the dot says what a file is. It fails for a sample that
// lacks what is needed.
func openWebDataset(name string, o Options) (table, error) {
	f, size, err := disk.OpenSize(name)
	if err != nil {
		return nil, err // names the path
	}
	l := &listing{dir: name, options: o, archive: []io.Closer{f}}
	samples, links, err := readSamples(name, f, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), l.Close())
	}
	if links > 0 {
		l.notes = append(l.notes, fmt.Sprintf("passed over: %d links and other special files of %s",
			links, filepath.Base(name)))
	}
	var errs []error
	for _, s := range samples {
		row, err := s.row(o)
		if err == nil {
			err = l.addRow(row)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: sample %s: %w", name, s.key, err))
		}
	}
	if err := firstOf(errs); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if len(samples) > 0 {
		l.columns = samples[0].extensions()
	}
	return l, nil
}

// readSamples reads the headers of an archive.
func readSamples(name string, f io.ReaderAt, size int64) (samples []sample, special int, err error) {
	section := io.NewSectionReader(f, 0, size)
	var start [2]byte
	if n, _ := f.ReadAt(start[:], 0); n == 2 && start == [2]byte{0x1f, 0x8b} {
		return nil, 0, errors.New("compressed by gzip: rows are read where they lie, so unpack it with gunzip first")
	}
	seen := map[string]bool{}
	for r := tar.NewReader(section); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return samples, special, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are only keys
			return nil, 0, fmt.Errorf("after %s: %w: truncated or no tar archive", describeLast(samples), err)
		}
		key, extension, ok := sampleName(h.Name)
		switch {
		case h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case h.Typeflag != tar.TypeReg || h.PAXRecords["GNU.sparse.major"] != "" ||
			h.PAXRecords["GNU.sparse.map"] != "":
			special++
			continue
		case !ok:
			continue
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, 0, err
		}
		if h.Size > imaging.MaxFileBytes || h.Size > size-offset {
			return nil, 0, fmt.Errorf("%s: %d bytes at %d of %d: truncated, or more than the %d that are read of an "+
				"image", h.Name, h.Size, offset, size, imaging.MaxFileBytes)
		}
		if len(samples) == 0 || samples[len(samples)-1].key != key {
			if seen[key] {
				return nil, 0, fmt.Errorf("%s: the files of sample %s are not adjacent: those of a sample have to "+
					"follow each other", h.Name, key)
			}
			seen[key] = true
			samples = append(samples, sample{key: key, files: map[string]place{}})
		}
		files := samples[len(samples)-1].files
		if _, twice := files[extension]; twice {
			return nil, 0, fmt.Errorf("%s is there twice", h.Name)
		}
		files[extension] = place{name: h.Name, path: name, size: h.Size, offset: offset, tar: f}
	}
}

// describeLast names the last sample that was read.
func describeLast(samples []sample) string {
	if len(samples) == 0 {
		return "nothing"
	}
	return "sample " + samples[len(samples)-1].key
}

// sampleName divides the path of a file into the key of its sample and its extension, at the first dot of its name.
// Hidden files and those without extension belong to no sample.
func sampleName(name string) (key, extension string, ok bool) {
	dir, base := path.Split(name)
	stem, extension, ok := strings.Cut(base, ".")
	return dir + stem, strings.ToLower(extension), ok && stem != "" && extension != ""
}

// row finds the parts of a row among a sample's files.
func (s sample) row(o Options) (row listedRow, err error) {
	var errs []error
	if image, err := s.image(o); err != nil {
		errs = append(errs, err)
	} else {
		row.image = *image
	}
	if o.readsConditioning() {
		names := orDefaults(o.ConditioningImageColumn, DefaultReading().ConditioningImageColumn, defaultConditions)
		if row.condition, err = s.first(s.pictures, "conditioning image", names); err != nil {
			errs = append(errs, err)
		}
	}
	if o.MaskColumn != "" {
		if row.mask, err = s.first(s.pictures, "mask", []string{o.MaskColumn}); err != nil {
			errs = append(errs, err)
		}
	}
	fields, hasFields := s.files["json"]
	if !o.NoCaptions {
		names := orDefaults(o.CaptionColumn, DefaultReading().CaptionColumn, defaultCaptions)
		if row.text, err = s.first(s.named, "caption", names); err != nil && !hasFields {
			errs = append(errs, err)
		}
	}
	if hasFields && (len(o.Extra) > 0 || !o.NoCaptions && row.text == nil) {
		row.fields = &fields
	}
	for _, p := range []*place{row.text, row.fields} {
		if p != nil && p.size > maxLine {
			errs = append(errs, fmt.Errorf("%d bytes in %s, at most %d are read of a text", p.size, p.name, maxLine))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return row, fmt.Errorf("%w; it has %s%s", err, strings.Join(s.extensions(), ", "), s.hint())
	}
	return row, nil
}

// orDefaults are the names that a column may have: its own or, if that is the usual one, others that are in use.
func orDefaults(column, usual string, defaults []string) []string {
	if column == usual {
		return defaults
	}
	return []string{column}
}

// image is the sample's picture: the one that is called as the column or, as WebDatasets have it, has no name.
func (s sample) image(o Options) (*place, error) {
	if found := s.pictures(o.ImageColumn); len(found) == 1 {
		return &found[0], nil
	}
	found := s.pictures("")
	switch len(found) {
	case 0:
		return nil, errors.New("no picture")
	case 1:
		return &found[0], nil
	}
	return nil, errors.New("several pictures: name the extension of one with --image_column")
}

// first is the first file that has one of the names.
func (s sample) first(find func(string) []place, what string, names []string) (*place, error) {
	for _, name := range names {
		if found := find(name); len(found) > 1 {
			return nil, fmt.Errorf("several files for the %s: %s and %s", what, found[0].name, found[1].name)
		} else if len(found) == 1 {
			return &found[0], nil
		}
	}
	return nil, fmt.Errorf("no %s (%s)", what, names[0])
}

// named are the files with an extension.
func (s sample) named(extension string) []place {
	if p, ok := s.files[strings.ToLower(extension)]; ok {
		return []place{p}
	}
	return nil
}

// pictures are those whose extension is name, or name with an image's extension after it.
func (s sample) pictures(name string) (found []place) {
	name = strings.ToLower(name)
	for _, extension := range s.extensions() {
		stem, image := "", "."+extension
		if i := strings.LastIndexByte(extension, '.'); i >= 0 {
			stem, image = extension[:i], extension[i:]
		}
		if slices.Contains(imageExtensions, image) && (stem == name || extension == name) {
			found = append(found, s.files[extension])
		}
	}
	return found
}

// extensions are those of the sample's files, in order.
func (s sample) extensions() []string { return slices.Sorted(maps.Keys(s.files)) }

// hint explains a key that ends before it should.
func (s sample) hint() string {
	for extension := range s.files {
		if !strings.Contains(extension, ".") {
			return ""
		}
	}
	return ": the name's first dot ends the key"
}

// readFields reads a sample's object of JSON: the caption, unless it is in a file of its own, and further columns.
func (r *rawRow) readFields(p place, o Options) {
	raw, err := p.read()
	var fields map[string]any
	if err == nil {
		if raw, err = plaintext.Decode(raw); err == nil {
			err = plaintext.JSON(raw, &fields)
		}
	}
	if err == nil && !o.NoCaptions && len(r.captions) == 0 {
		for _, name := range orDefaults(o.CaptionColumn, DefaultReading().CaptionColumn, defaultCaptions) {
			if r.captions, err = captionsOf(fields[name]); err != nil || len(r.captions) > 0 {
				break
			}
		}
		if err == nil && len(r.captions) == 0 {
			err = fmt.Errorf("no %s%s", o.CaptionColumn, describeFields(fields))
		}
		if err == nil {
			err = checkCaptions(r.captions)
		}
	}
	if err != nil {
		r.fail(fmt.Errorf("%s, %s: %w", p.path, p.name, err))
	}
	for _, name := range o.Extra {
		if text, ok := scalarText(fields[name]); ok {
			r.addExtra(name, text)
		}
	}
}
