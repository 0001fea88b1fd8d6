package data

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/plaintext"
)

// metadataName is the file with the captions and other columns of a folder's images, as in the datasets library's
// imagefolder.
const metadataName = "metadata.jsonl"

// imageExtensions are the extensions of image files.
var imageExtensions = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

// folder is a folder of images.
type folder struct {
	dir     string
	options Options
	// metadata says that rows are lines of metadata.jsonl.
	metadata bool
	rows     []folderRow
}

// folderRow is one image with its other columns.
type folderRow struct {
	image, condition, mask string // files within the folder
	captions               []string
	extra                  map[string]string
	sizes                  []int64 // of files
}

// Limits of the texts of a dataset, in bytes. CLIP reads a few hundred of a caption.
const (
	maxCaption  = 64 << 10
	maxCaptions = 1000    // of a row
	maxLine     = 1 << 20 // of metadata.jsonl
	maxMetadata = 1 << 30
)

// openFolder opens a folder of images. If it has a metadata.jsonl, each line of that names an image by file_name and,
// under the names of the other columns, its caption, conditioning image and mask. Without one, every image in the
// folder is a row, and its caption is in the file of the same name with the extension .txt. It fails for an image that
// lacks what is needed.
func openFolder(dir string, o Options) (table, error) {
	f := &folder{dir: dir, options: o}
	text, err := plaintext.ReadFile(filepath.Join(dir, metadataName), maxMetadata)
	switch {
	case err == nil:
		f.metadata = true
		err = f.readMetadata(text)
	case errors.Is(err, fs.ErrNotExist):
		err = f.list()
	}
	if err != nil {
		return nil, err
	}
	if len(f.rows) == 0 {
		text := fmt.Sprintf("%s holds neither *.parquet files nor images (%s)",
			dir, strings.Join(imageExtensions, ", "))
		others, err := passedOver(dir, f.used())
		if len(others) > 0 {
			text += "; passed over: " + strings.Join(others, ", ")
		}
		return nil, errors.Join(errors.New(text), err)
	}
	return f, nil
}

// used are the names of the files in the folder that its rows use.
func (f *folder) used() map[string]bool {
	used := map[string]bool{metadataName: f.metadata}
	for _, row := range f.rows {
		for _, name := range row.files() {
			used[topOf(name)] = true
		}
		if !f.metadata && !f.options.NoCaptions {
			used[captionFile(row.image)] = true
		}
	}
	return used
}

// captionFile is the file beside an image that has its caption.
func captionFile(image string) string { return strings.TrimSuffix(image, filepath.Ext(image)) + ".txt" }

// isImage says whether a folder's entry is an image file.
func isImage(e fs.DirEntry) bool {
	extension := strings.ToLower(filepath.Ext(e.Name()))
	return !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && slices.Contains(imageExtensions, extension)
}

// CountImages counts the images in a folder; a missing folder has none.
func CountImages(dir string) (n int, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		if isImage(e) {
			n++
		}
	}
	return n, err
}

// list adds a row for every image of the folder.
func (f *folder) list() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("open data: %w", err)
	}
	var errs []error
	for _, e := range entries { // sorted by name
		name := e.Name()
		if !isImage(e) {
			continue
		}
		row := folderRow{image: name}
		if f.options.readsConditioning() || f.options.MaskColumn != "" {
			return fmt.Errorf("%s: conditioning images and masks of a folder are named in its %s, "+
				"which it does not have", f.dir, metadataName)
		}
		if !f.options.NoCaptions {
			text := captionFile(name)
			raw, err := plaintext.ReadFile(filepath.Join(f.dir, text), maxCaption)
			if errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("%s has no caption: write it to %s beside it", f.file(name), text))
				continue
			} else if err != nil {
				errs = append(errs, fmt.Errorf("caption: %w", err))
				continue
			}
			row.captions = []string{strings.TrimSpace(string(raw))}
		}
		if err := f.add(row); err != nil {
			errs = append(errs, err)
		}
	}
	return firstOf(errs)
}

// firstOf joins the first errors of many.
func firstOf(errs []error) error {
	const shown = 5
	if more := len(errs) - shown; more > 0 {
		errs = append(errs[:shown:shown], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// readMetadata adds a row for every line of metadata.jsonl.
func (f *folder) readMetadata(text []byte) error {
	path := filepath.Join(f.dir, metadataName)
	var errs []error
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		row, err := f.metadataRow(line)
		if err == nil {
			err = f.add(row)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s line %d: %w", path, n, err))
		}
	}
	return firstOf(errs)
}

func (f *folder) metadataRow(line []byte) (folderRow, error) {
	if len(line) > maxLine {
		return folderRow{}, fmt.Errorf("%d bytes: at most %d are read of a line", len(line), maxLine)
	}
	var fields map[string]any
	if err := plaintext.JSON(line, &fields); err != nil {
		return folderRow{}, err
	}
	var row folderRow
	var errs []error
	take := func(to *string, needed bool, names ...string) {
		for _, name := range names {
			if text, ok := fields[name].(string); ok && needed {
				*to = text
				return
			}
		}
		if needed {
			errs = append(errs, fmt.Errorf("no %s", names[0]))
		}
	}
	o := f.options
	take(&row.image, true, "file_name", o.ImageColumn+"_file_name", o.ImageColumn)
	take(&row.condition, o.readsConditioning(), o.ConditioningImageColumn, o.ConditioningImageColumn+"_file_name")
	take(&row.mask, o.MaskColumn != "", o.MaskColumn, o.MaskColumn+"_file_name")
	if !o.NoCaptions {
		var err error
		if row.captions, err = captionsOf(fields[o.CaptionColumn]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.CaptionColumn, err))
		} else if len(row.captions) == 0 {
			errs = append(errs, fmt.Errorf("no %s", o.CaptionColumn))
		}
	}
	for _, name := range o.Extra {
		if text, ok := scalarText(fields[name]); ok {
			if row.extra == nil {
				row.extra = map[string]string{}
			}
			row.extra[name] = text
		}
	}
	return row, errors.Join(errs...)
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

// scalarText writes a field of JSON as text; ok is false for null, lists and objects.
func scalarText(field any) (text string, ok bool) {
	switch v := field.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	}
	return "", false
}

// add appends a row, and fails if one of its files is missing or too large.
func (f *folder) add(row folderRow) error {
	if err := checkCaptions(row.captions); err != nil {
		return err
	}
	for _, name := range row.files() {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%s: want a file within the folder", name)
		}
		info, err := os.Stat(f.file(name))
		if err != nil {
			return err // names the file
		}
		switch {
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s: %w", f.file(name), disk.ErrNotRegular)
		case info.Size() > imaging.MaxFileBytes:
			return fmt.Errorf("%s: %d bytes, at most %d are read of an image",
				f.file(name), info.Size(), imaging.MaxFileBytes)
		}
		row.sizes = append(row.sizes, info.Size())
	}
	f.rows = append(f.rows, row)
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

func (r folderRow) files() []string {
	return slices.DeleteFunc([]string{r.image, r.condition, r.mask}, func(name string) bool { return name == "" })
}

func (r folderRow) bytes() (sum int64) {
	for _, size := range r.sizes {
		sum += size
	}
	return sum
}

// file is where a file of the folder lies.
func (f *folder) file(name string) string { return filepath.Join(f.dir, name) }

func (f *folder) path() string { return f.dir }

// Close has nothing to close.
func (f *folder) Close() error { return nil }

// groups has one group for each image, so that files are read as they are needed.
func (f *folder) groups() []group {
	groups := make([]group, len(f.rows))
	for i, row := range f.rows {
		groups[i] = group{rows: 1, bytes: row.bytes()}
	}
	return groups
}

func (f *folder) readRows(index int, _, _ int64) []rawRow {
	row := f.rows[index]
	raw := rawRow{captions: row.captions, extra: row.extra}
	for _, part := range []struct {
		name string
		to   *[]byte
	}{{row.image, &raw.image}, {row.condition, &raw.condition}, {row.mask, &raw.mask}} {
		if part.name == "" {
			continue
		}
		var err error
		if *part.to, err = imaging.ReadFile(f.file(part.name)); err != nil {
			raw.fail(err)
		}
	}
	return []rawRow{raw}
}

func (f *folder) fingerprint(h hash.Hash) error {
	for _, row := range f.rows {
		caption := ""
		if len(row.captions) > 0 {
			caption = row.captions[0]
		}
		fmt.Fprintf(h, "%q %q %d\n", row.files(), caption, row.bytes())
		if len(row.captions) > 1 {
			fmt.Fprintf(h, "%q\n", row.captions[1:])
		}
	}
	return nil
}
