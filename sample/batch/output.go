package batch

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"limner/internal/disk"
	"limner/internal/plaintext"
	"limner/models/checkpoint"
)

// latentsFile is where --save_latents writes to.
const latentsFile = "latents.safetensors"

// latentsPart is that file while images are missing in it.
const latentsPart = latentsFile + ".part"

// previewDir is the folder of previews.
const previewDir = "previews"

// The files of an output folder of limner sample, beside the images.
const (
	recordFile = "sample.json"
	gridFile   = "grid.png"
)

// mostRecord is the largest sample.json that is read: some kilobytes for each of mostImages.
const mostRecord = 1 << 29

// folderRecord is sample.json: how the images were made. It also tells the command's own files from others.
type folderRecord struct {
	Unfinished bool   `json:"unfinished,omitempty"` // limner sample is at work on it, or was stopped
	Seed       uint64 `json:"seed"`                 // that of the command, from which those of the images follow
	Outputs
	Images []imageEntry `json:"images"`
	Files  []string     `json:"files"` // all that the command writes, but sample.json
}

type imageEntry struct {
	File    string `json:"file"`
	Problem string `json:"problem,omitempty"` // what is wrong with the image
	ImageRecord
}

// output is a folder that is new, empty, or holds a result of limner sample and nothing else.
type output struct {
	dir   string
	goOn  *folderRecord // of what --resume goes on with; nil: there is nothing
	old   []string      // what begin removes: an earlier result, or what a process that was killed was writing
	frees int64         // bytes that this frees
	began bool
}

// openOutput refuses a folder that holds anything else, one that cannot be written, and without resume a result that is
// not finished. It leaves what is there as it is.
func openOutput(dir string, resume bool) (*output, error) {
	o := &output{dir: dir}
	entries, err := disk.Content(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	record, err := readRecord(dir)
	if err != nil {
		return nil, err
	}
	own := record.names()
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == recordFile:
			continue
		case own[name] == "" && own[unfinishedName(name)] == "":
			return nil, fmt.Errorf("output folder %s holds something else (%s): name another, or empty it", dir, name)
		case own[name] == listed && resume:
			continue
		}
		o.old = append(o.old, name)
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			o.frees += info.Size()
		}
	}
	switch {
	case record.Images == nil:
	case resume:
		o.goOn = &record
	case record.Unfinished:
		return nil, fmt.Errorf("output folder %s holds %d of the %d images of a command that was stopped: "+
			"give --resume to go on with it, or empty the folder",
			dir, record.present(dir), len(record.Images))
	}
	return o, checkWritable(dir)
}

// readRecord reads a folder's sample.json; one that is not there says nothing.
func readRecord(dir string) (record folderRecord, err error) {
	path := filepath.Join(dir, recordFile)
	raw, err := disk.ReadFile(path, mostRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return record, nil
	}
	if err == nil {
		err = plaintext.JSON(raw, &record)
	}
	if err != nil {
		return record, fmt.Errorf("output folder: %s: %w", path, err)
	}
	return record, nil
}

// SeedBegunWith is the seed of the command that --resume goes on with; where there is none, that of this one.
func (c *Options) SeedBegunWith() (uint64, error) {
	if !c.Resume {
		return c.Seed, nil
	}
	record, err := readRecord(c.OutputDir)
	if err != nil || record.Images == nil {
		return c.Seed, err
	}
	return record.Seed, nil
}

// What a file of an output folder is.
const (
	listed  = "listed"  // the record has it
	another = "another" // an image that was bad is sampled again
)

// names are those of all files that the command may have written.
func (r folderRecord) names() map[string]string {
	names := map[string]string{}
	for _, name := range r.Files {
		names[badName(name)] = another
	}
	for _, name := range append([]string{recordFile}, r.Files...) {
		names[name] = listed
	}
	if r.SaveLatents {
		names[latentsPart] = listed
	}
	return names
}

// badName is the file of an image in which something is wrong.
func badName(name string) string {
	extension := filepath.Ext(name)
	return strings.TrimSuffix(name, extension) + "-bad" + extension
}

// unfinishedName is the name that a file would have got that was being written under a temporary one, as renameio makes
// them.
func unfinishedName(name string) string {
	hidden, ok := strings.CutPrefix(name, ".")
	if !ok {
		return ""
	}
	return strings.TrimRight(hidden, "0123456789")
}

// present counts the images that are there.
func (r folderRecord) present(dir string) int {
	n := 0
	for _, entry := range r.Images {
		if isFile(filepath.Join(dir, entry.File)) {
			n++
		}
	}
	return n
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// checkWritable makes the folder and a file in it, and removes what it made.
func checkWritable(dir string) error {
	var missing []string // the deepest first
	for at := filepath.Clean(dir); at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		}
		missing = append(missing, at)
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, "."+recordFile); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	for _, folder := range missing {
		_ = os.Remove(folder) // what was not made is not there
	}
	if err != nil {
		return fmt.Errorf("output folder: %w: name another by --output_dir", err)
	}
	return nil
}

// checkSpace fails if the disk is known to have less than about need bytes free.
func (o *output) checkSpace(need int64) error {
	there := filepath.Clean(o.dir)
	for !isFolder(there) && there != filepath.Dir(there) {
		there = filepath.Dir(there)
	}
	free, err := disk.Free(there)
	if err != nil || free+o.frees >= need {
		return nil // unknown is no reason to refuse: a full disk shows itself when writing
	}
	return fmt.Errorf("output folder %s: the images take about %d MB, %d MB are free: "+
		"name an --output_dir on another disk, or make space",
		o.dir, need/1e6+1, (free+o.frees)/1e6)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// begin makes the folder that of a record. What is old goes first, so that whatever happens no file is taken for
// another's, and the record is written before any of its files, so that they are known as the command's own.
func (o *output) begin(record folderRecord) error {
	if o.began {
		return nil
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	for _, name := range o.old {
		if err := os.RemoveAll(filepath.Join(o.dir, name)); err != nil {
			return fmt.Errorf("output folder: %w", err)
		}
	}
	if err := o.clearPreviews(); err != nil {
		return err
	}
	o.began = true
	record.Unfinished = true
	return checkpoint.WriteJSON(filepath.Join(o.dir, recordFile), record)
}

// finish says that all files of the record are there.
func (o *output) finish(record folderRecord) error {
	record.Unfinished = false
	return checkpoint.WriteJSON(filepath.Join(o.dir, recordFile), record)
}

// clearPreviews removes previews that a process that was killed was writing.
func (o *output) clearPreviews() error {
	entries, err := os.ReadDir(filepath.Join(o.dir, previewDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output folder: %w", err)
	}
	for _, e := range entries {
		if unfinishedName(e.Name()) == "" {
			continue
		}
		if err := os.Remove(filepath.Join(o.dir, previewDir, e.Name())); err != nil {
			return fmt.Errorf("output folder: %w", err)
		}
	}
	return nil
}

// write writes a file of the record. It appears whole or not at all.
func (o *output) write(name string, raw []byte) error {
	return o.stream(name, func(w io.Writer) error { _, err := w.Write(raw); return err })
}

// stream writes a file of the record piece by piece, likewise.
func (o *output) stream(name string, fill func(io.Writer) error) error {
	path := filepath.Join(o.dir, name)
	if err := disk.Replace(path, 0o644, fill); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// hashed are the flags whose files a record knows by their SHA-256.
var hashed = []string{
	modelFlag, "revision", loraFlag, inversionFlag, controlNetFlag, imageFlag, maskFlag, controlFlag, noiseFlag,
}

// differences says in what a command is not the one that a record is of. Files count by their SHA-256 and not by where
// they lie.
func (r folderRecord) differences(now folderRecord) ([]string, error) {
	var all []string
	note := func(name string, was, is any) {
		if text := fmt.Sprintf("%s: was %v, is %v", name, was, is); !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	compare := func(was, is any, leftOut []string) error {
		a, err := fieldsOf(was)
		if err != nil {
			return err
		}
		b, err := fieldsOf(is)
		if err != nil {
			return err
		}
		names := maps.Clone(a)
		maps.Copy(names, b)
		for _, name := range sortedKeys(names) {
			if string(a[name]) != string(b[name]) && !slices.Contains(leftOut, name) {
				note("--"+name, cmp.Or(string(a[name]), "not given"), cmp.Or(string(b[name]), "not given"))
			}
		}
		return nil
	}
	if err := compare(r.Outputs, now.Outputs, nil); err != nil {
		return nil, err
	}
	if was, is := len(r.Images), len(now.Images); was != is {
		note("images", was, is)
		return all, nil
	}
	for i, was := range r.Images {
		is := now.Images[i]
		if was.Backend != is.Backend {
			note("--backend", was.Backend, is.Backend)
		}
		if err := compareFiles(was.Files, is.Files); err != nil && !slices.Contains(all, err.Error()) {
			all = append(all, err.Error())
		}
		if err := compare(was.Sample, is.Sample, hashed); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// fieldsOf are a struct's fields as JSON has them.
func fieldsOf(v any) (map[string]json.RawMessage, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("compare records: %w", err)
	}
	var fields map[string]json.RawMessage
	err = json.Unmarshal(raw, &fields)
	return fields, err
}

// sortedKeys lists the keys of a map in order.
func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
