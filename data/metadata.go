package data

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"limner/internal/plaintext"
)

// Names of files with the captions and other columns of a folder's images: those of the datasets library's imagefolder,
// and that of ControlNet's fill50k.
const (
	metadataName    = "metadata.jsonl"
	metadataCSVName = "metadata.csv"
	promptName      = "prompt.json"
)

// metadataFile reads the rows that a file lists.
type metadataFile struct {
	*folder
	file  string
	names *root // below which its names lie
	zips  *zips
	errs  []error
}

// openMetadata lists the images that the lines of a file name: metadata.jsonl, metadata.csv, prompt.json or other files
// with an object of JSON a line. An image is named by file_name, or under the name of its column, and what goes with it
// under the names of the other columns. Names lie below the file's folder or image_root, else in the zip archives
// there.
func openMetadata(path string, o Options) (table, error) {
	dir := filepath.Dir(path)
	f, err := newFolder(dir, o)
	if err != nil {
		return nil, err
	}
	m := &metadataFile{folder: f, file: path}
	if m.names, err = newRoot(dir, o.ImageRoot); err != nil {
		return nil, err
	}
	m.zips = &zips{dir: m.names.dir}
	f.used[filepath.Base(path)] = true
	text, err := plaintext.ReadFile(path, maxMetadata)
	if err == nil {
		if strings.EqualFold(filepath.Ext(path), ".csv") {
			err = m.readCSV(text)
		} else {
			m.readLines(text)
		}
	}
	if err = errors.Join(err, firstOf(m.errs)); err != nil {
		return nil, errors.Join(err, m.zips.Close())
	}
	f.archive = append(f.archive, m.zips)
	m.zips.use(f.used)
	f.finish()
	return f.listing, nil
}

// readLines adds a row for every line of JSON.
func (m *metadataFile) readLines(text []byte) {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if line = bytes.TrimSpace(line); len(line) > 0 {
			m.addLine(n, func() (map[string]any, error) { return fieldsOf(line) })
		}
	}
}

// fieldsOf decodes a line of JSON.
func fieldsOf(line []byte) (fields map[string]any, err error) {
	switch {
	case len(line) > maxLine:
		return nil, fmt.Errorf("%d bytes: at most %d are read of a line", len(line), maxLine)
	case line[0] == '[':
		return nil, errors.New("an array of JSON: want one object a line, without brackets and commas around them")
	}
	err = plaintext.JSON(line, &fields)
	return fields, err
}

// readCSV adds a row for every record after the first, which names the columns.
func (m *metadataFile) readCSV(text []byte) error {
	r := csv.NewReader(bytes.NewReader(text))
	header, err := r.Read()
	if err != nil {
		return fmt.Errorf("%s: %w", m.file, csvError(err))
	}
	m.columns = header
	column := m.options.ImageColumn + "_file_name"
	if !slices.Contains(header, "file_name") && !slices.Contains(header, column) {
		return fmt.Errorf("%s has no column file_name; it has %s: name the images' column file_name or %s",
			m.file, strings.Join(header, ", "), column)
	}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.file, csvError(err)) // after it, no line is what it seems
		}
		line, _ := r.FieldPos(0)
		m.addLine(line, func() (map[string]any, error) {
			fields := make(map[string]any, len(header))
			for i, name := range header {
				if len(record[i]) > maxLine {
					return nil, fmt.Errorf("%s: %d bytes, at most %d are read", name, len(record[i]), maxLine)
				}
				if record[i] != "" {
					fields[name] = record[i]
				}
			}
			return fields, nil
		})
	}
}

// csvError says where a CSV file is wrong, in the words of other messages.
func csvError(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("empty")
	case errors.As(err, &parse):
		return fmt.Errorf("line %d: %w", parse.Line, parse.Err)
	}
	return err
}

// addLine adds the row of a line.
func (m *metadataFile) addLine(n int, fields func() (map[string]any, error)) {
	values, err := fields()
	if m.columns == nil {
		m.columns = slices.Sorted(maps.Keys(values))
	}
	if err == nil {
		err = m.addFields(values)
	}
	if err != nil {
		m.errs = append(m.errs, fmt.Errorf("%s line %d: %w", m.file, n, err))
	}
}

// addFields adds the row of a line's fields.
func (m *metadataFile) addFields(fields map[string]any) error {
	o := m.options
	image, condition, caption := "", "", o.CaptionColumn
	if filepath.Base(m.file) == promptName {
		image, condition = "target", "source"
		if fields[caption] == nil {
			caption = "prompt"
		}
	}
	var row listedRow
	var errs []error
	names := []string{"file_name", o.ImageColumn + "_file_name", o.ImageColumn, image}
	if strings.EqualFold(filepath.Ext(m.file), ".csv") {
		names = names[:2]
	}
	p, err := m.take(fields, names...)
	row.image = p
	errs = append(errs, err)
	if o.readsConditioning() && o.ConditioningDataDir == "" {
		p, err := m.take(fields, o.ConditioningImageColumn, o.ConditioningImageColumn+"_file_name", condition)
		row.condition, errs = &p, append(errs, err)
	} else if err == nil {
		errs = append(errs, m.addCondition(&row))
	}
	if o.MaskColumn != "" {
		p, err := m.take(fields, o.MaskColumn, o.MaskColumn+"_file_name")
		row.mask, errs = &p, append(errs, err)
	}
	if !o.NoCaptions {
		var err error
		if row.captions, err = captionsOf(fields[caption]); err != nil {
			err = fmt.Errorf("%s: %w", caption, err)
		} else if len(row.captions) == 0 {
			err = fmt.Errorf("no %s%s", caption, describeFields(fields))
		}
		errs = append(errs, err)
	}
	for _, name := range o.Extra {
		if text, ok := scalarText(fields[name]); ok {
			row.addExtra(name, text)
		} else if text := m.extra(row.image.name)[name]; text != "" {
			row.addExtra(name, text)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return m.addRow(row)
}

// describeFields lists the names of a line's fields, for the end of an error.
func describeFields(fields map[string]any) string {
	return "; it has " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// take finds the picture that one of the fields names.
func (m *metadataFile) take(fields map[string]any, names ...string) (place, error) {
	for _, key := range names {
		name, ok := fields[key].(string)
		if !ok || key == "" {
			continue
		}
		path, size, err := m.names.find(name)
		if errors.Is(err, fs.ErrNotExist) {
			if p, ok, zipped := m.zips.find(name); ok || zipped != nil {
				return p, zipped
			}
		}
		return place{name: name, path: path, size: size}, err
	}
	return place{}, fmt.Errorf("no %s%s", names[0], describeFields(fields))
}

// captionsOf are the captions that a field of JSON holds: a text, or a list of texts.
func captionsOf(field any) ([]string, error) {
	switch v := field.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var captions []string
		for _, element := range v {
			text, ok := element.(string)
			if !ok {
				return nil, errors.New("want a text or a list of texts")
			}
			captions = append(captions, text)
		}
		return captions, nil
	}
	return nil, errors.New("want a text or a list of texts")
}

// scalarText writes a field of JSON as text, an object as JSON; ok is false for null and lists.
func scalarText(field any) (text string, ok bool) {
	switch v := field.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case map[string]any:
		raw, err := json.Marshal(v)
		return string(raw), err == nil
	}
	return "", false
}
