package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"limner/internal/plaintext"
)

// imageExtensions are the extensions of image files.
var imageExtensions = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

// captionExtensions are those of the files with captions beside images, the first that is there.
var captionExtensions = []string{".txt", ".caption"}

// repeated is the name of a folder whose images count several times an epoch, as kohya's sd-scripts have it.
var repeated = regexp.MustCompile(`^([0-9]+)_(.*)$`)

// folder lists the images of a folder.
type folder struct {
	*listing
	root       *root
	conditions map[string][]string // images of conditioning_data_dir by their names without extension
	condRoot   *root
	paired     map[string]string // the image that has a conditioning image, by that
	longer     int               // captions of several lines
}

// isImage says whether a folder's entry is an image file.
func isImage(e fs.DirEntry) bool { return !e.IsDir() && isImageName(e.Name()) }

func isImageName(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains(imageExtensions, strings.ToLower(filepath.Ext(name)))
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

// openFolder lists the given images below dir, whose captions are in the files of the same names with the extension
// .txt or .caption. Images below a folder <n>_<name> count n times an epoch. It fails for images that lack what is
// needed.
func openFolder(dir string, images []string, o Options) (table, error) {
	f, err := newFolder(dir, o)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range images {
		if err := f.addImage(name); err != nil {
			errs = append(errs, err)
		}
	}
	if err := firstOf(errs); err != nil {
		return nil, err
	}
	f.finish()
	return f.listing, nil
}

// newFolder begins a listing of a folder's images.
func newFolder(dir string, o Options) (*folder, error) {
	f := &folder{
		listing: &listing{dir: dir, options: o, used: map[string]bool{}}, paired: map[string]string{},
	}
	var err error
	if f.root, err = newRoot(dir, ""); err != nil {
		return nil, err
	}
	if o.ImageRoot != "" {
		if err := f.root.allow(o.ImageRoot); err != nil {
			return nil, fmt.Errorf("image_root: %w", err)
		}
	}
	if o.readsConditioning() && o.ConditioningDataDir != "" {
		if err := f.listConditions(); err != nil {
			return nil, fmt.Errorf("conditioning_data_dir: %w", err)
		}
	}
	return f, nil
}

// listConditions lists the images of conditioning_data_dir.
func (f *folder) listConditions() error {
	dir := f.options.ConditioningDataDir
	names, err := imagesBelow(dir)
	if err != nil {
		return err
	}
	if f.condRoot, err = newRoot(dir, ""); err != nil {
		return err
	}
	if f.options.ImageRoot != "" {
		if err := f.condRoot.allow(f.options.ImageRoot); err != nil {
			return fmt.Errorf("image_root: %w", err)
		}
	}
	f.conditions = map[string][]string{}
	for _, name := range names {
		stem := withoutExtension(name)
		f.conditions[stem] = append(f.conditions[stem], name)
	}
	return nil
}

// withoutExtension is a path without the extension of its file.
func withoutExtension(name string) string { return strings.TrimSuffix(name, filepath.Ext(name)) }

// addImage adds a row for an image of the folder.
func (f *folder) addImage(name string) error {
	path, size, err := f.root.find(name)
	if err != nil {
		return err
	}
	row := listedRow{image: place{name: name, path: path, size: size}, extra: f.extra(name)}
	if f.options.MaskColumn != "" {
		return fmt.Errorf("%s has no mask: masks are named in a metadata.jsonl, under %s", path, f.options.MaskColumn)
	}
	if err := f.addCondition(&row); err != nil {
		return err
	}
	if !f.options.NoCaptions {
		caption, err := f.caption(name)
		if err != nil {
			return err
		}
		row.captions = []string{caption}
	}
	if row.repeats, err = repeatsOf(name); err != nil {
		return err
	}
	return f.addRow(row)
}

// extra are the further columns of an image without metadata.
func (f *folder) extra(name string) map[string]string {
	var extra map[string]string
	for _, column := range f.options.Extra {
		text := map[string]string{"class": f.class(name), "file_name": filepath.ToSlash(name)}[column]
		if text != "" && extra == nil {
			extra = map[string]string{}
		}
		if text != "" {
			extra[column] = text
		}
	}
	return extra
}

// addCondition finds a row's conditioning image in conditioning_data_dir: under the image's path, or its name alone.
func (f *folder) addCondition(row *listedRow) error {
	if !f.options.readsConditioning() {
		return nil
	}
	image, dir := row.image.name, f.options.ConditioningDataDir
	if f.conditions == nil {
		return fmt.Errorf("%s has no conditioning image: name the folder of those with --conditioning_data_dir, where "+
			"they have the images' names, name each in a metadata.jsonl under %s, or take them from the images with "+
			"--condition",
			row.image.path, f.options.ConditioningImageColumn)
	}
	stem := withoutExtension(image)
	found := f.conditions[stem]
	if len(found) == 0 {
		stem = filepath.Base(stem)
		found = f.conditions[stem]
	}
	switch {
	case len(found) == 0:
		return fmt.Errorf("%s has no conditioning image in %s: none is called %s", row.image.path, dir, stem+".*")
	case len(found) > 1:
		return fmt.Errorf("%s has several conditioning images in %s: %s", row.image.path, dir, someNames(found))
	case f.paired[found[0]] != "":
		return fmt.Errorf("%s and %s have one conditioning image, %s: put those of equal names into folders like the "+
			"images'", f.paired[found[0]], image, filepath.Join(dir, found[0]))
	}
	f.paired[found[0]] = image
	path, size, err := f.condRoot.find(found[0])
	row.condition = &place{name: found[0], path: path, size: size}
	return err
}

// caption is that of an image, in a file beside it or, with ClassCaptions, the name of its folder.
func (f *folder) caption(name string) (string, error) {
	for _, extension := range captionExtensions {
		text := withoutExtension(name) + extension
		path := filepath.Join(f.dir, text)
		raw, err := plaintext.ReadFile(path, maxCaption)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = f.root.check(path)
		}
		if err != nil {
			return "", fmt.Errorf("caption: %w", err)
		}
		f.used[topOf(text)] = true
		caption := firstLine(string(raw))
		if caption != strings.TrimSpace(string(raw)) {
			f.longer++
		}
		return caption, nil
	}
	if f.options.ClassCaptions {
		return f.class(name), nil
	}
	return "", fmt.Errorf("%s has no caption: write it to %s beside it, or take folders' names with --class_captions",
		filepath.Join(f.dir, name), filepath.Base(withoutExtension(name))+captionExtensions[0])
}

// firstLine is the first line of a text that is not empty, without space around it: what kohya's sd-scripts take of a
// file with a caption.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}

// class is the name of an image's folder, without a number of repeats.
func (f *folder) class(name string) string {
	dir, err := filepath.Abs(filepath.Dir(filepath.Join(f.dir, name)))
	if err != nil {
		return ""
	}
	base := filepath.Base(dir)
	if parts := repeated.FindStringSubmatch(base); parts != nil && filepath.Dir(name) != "." {
		return parts[2]
	}
	return base
}

// repeatsOf is how often an image counts in an epoch, by the name of the folder that holds its own.
func repeatsOf(name string) (int64, error) {
	const most = 1e6
	parts := repeated.FindStringSubmatch(topOf(name))
	if parts == nil || filepath.Dir(name) == "." {
		return 1, nil
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s: the folder's name says that its images count %s times an epoch: want 1 to %d",
			name, parts[1], int(most))
	}
	return int64(n), nil
}

// finish notes what the log says.
func (f *folder) finish() {
	repeats := map[string]int64{}
	var names []string
	for _, row := range f.rows {
		top := topOf(row.image.name)
		f.used[top] = true
		if row.repeats > 1 && repeats[top] == 0 {
			repeats[top], names = row.repeats, append(names, fmt.Sprintf("%s %d times", top, row.repeats))
		}
	}
	if len(names) > 0 {
		f.notes = append(f.notes, "in an epoch, images count as their folders say: "+someNames(names))
	}
	if f.longer > 0 {
		f.notes = append(f.notes, fmt.Sprintf("of %d captions of several lines, the first line is read", f.longer))
	}
	unpaired := 0
	for _, found := range f.conditions {
		for _, name := range found {
			if f.paired[name] == "" {
				unpaired++
			}
		}
	}
	if unpaired > 0 {
		f.notes = append(f.notes, fmt.Sprintf("passed over: %d images of %s that belong to no image",
			unpaired, f.options.ConditioningDataDir))
	}
}

// maxDepth is how many folders deep a dataset is looked for.
const maxDepth = 16

// imagesBelow lists the images in a folder and those below it, in the order of their paths. Links to folders are not
// followed.
func imagesBelow(dir string) ([]string, error) {
	var images []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name := relative(dir, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != "." &&
			(strings.HasPrefix(e.Name(), ".") || strings.Count(name, string(filepath.Separator)) > maxDepth):
			return filepath.SkipDir
		case isImage(e):
			images = append(images, name)
		}
		return nil
	})
	return images, err
}
