package build

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"limner/data/quality"
	"limner/internal/disk"
	"limner/internal/refusal"
)

// A build works in a folder beside the one that it makes, .<name>.building:
//
//	lock            held while a build runs
//	build.json      what is built of what: a build goes on only with the same
//	journal/00000.jsonl, …
//	                for each parquet file what became of the rows that were read for it, written once the file is on
//	                the disk: a file without its journal is not finished, and is written again
//	set/            what will be published
//
// What is decided about a row follows from the rows before it. So a build that goes on reads the journals, and with
// that is where it was.

// work is the folder of a build.
type work struct {
	dir  string
	lock *flock.Flock
}

// Names in a work folder.
const (
	workLock    = "lock"
	workBuild   = "build.json"
	workJournal = "journal"
	workSet     = "set"
)

// workDir is the folder in which out is made.
func workDir(out string) string {
	return filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".building")
}

// openWork opens the work folder of a build, or makes it. key is what is built of what.
func openWork(out string, key []byte) (_ *work, err error) {
	w := &work{dir: workDir(out)}
	for _, dir := range []string{w.dir, w.path(workJournal), w.path(workSet, dataFolder)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	w.lock = flock.New(w.path(workLock), flock.SetPermissions(0o644))
	locked, err := w.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", w.dir, err)
	}
	if !locked {
		return nil, refusal.Errorf("another build makes %s: wait for it", out)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.lock.Close())
		}
	}()
	have, err := os.ReadFile(w.path(workBuild))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return w, disk.WriteFile(w.path(workBuild), key, 0o644)
	case err != nil:
		return nil, err
	case !bytes.Equal(have, key):
		return nil, refusal.Errorf("%s was begun %s: give the same again, or remove %s to begin anew",
			out, difference(have, key), w.dir)
	}
	return w, nil
}

// difference says in what two builds differ.
func difference(a, b []byte) string {
	var x, y map[string]json.RawMessage
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return "in another way"
	}
	for name, what := range map[string]string{"from": "from other data", "settings": "with other settings"} {
		if !bytes.Equal(x[name], y[name]) {
			return what
		}
	}
	return "by another version of limner"
}

func (w *work) path(names ...string) string {
	return filepath.Join(append([]string{w.dir}, names...)...)
}

// close gives the folder free, and keeps it.
func (w *work) close() error { return w.lock.Close() }

// remove removes the folder.
func (w *work) remove() error { return errors.Join(w.lock.Close(), os.RemoveAll(w.dir)) }

// part is a parquet file, as the journal has it.
type part struct {
	Split  string `json:"split"`
	Number int    `json:"number"` // within the split
	Rows   int    `json:"rows"`   // 0: no file was written, all rows were left out
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// name is the file's name while the number of files of its split is not known.
func (p part) name() string { return fmt.Sprintf("%s-%05d.parquet", p.Split, p.Number) }

// lastName is the file's name among as many as the split has.
func (p part) lastName(of int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.parquet", p.Split, p.Number, of)
}

// entry is what became of a row.
type entry struct {
	Row int `json:"row"`

	Why    string `json:"why,omitempty"` // one of left…, if it was left out
	Detail string `json:"detail,omitempty"`

	Image  []byte   `json:"image,omitempty"` // its print, if it was kept and is compared with others
	Paired [][]byte `json:"paired,omitempty"`
	Copied bool     `json:"copied,omitempty"`
	More   bool     `json:"more,omitempty"`
}

// setLikeness keeps what a row is found again by.
func (e *entry) setLikeness(l *likeness) {
	e.Image, _ = l.image.MarshalBinary() // it does not fail
	for _, p := range l.paired {
		raw, _ := p.MarshalBinary()
		e.Paired = append(e.Paired, raw)
	}
}

// likeness is what setLikeness kept.
func (e *entry) likeness() (l likeness, err error) {
	err = l.image.UnmarshalBinary(e.Image)
	for _, raw := range e.Paired {
		var p quality.Print
		err = errors.Join(err, p.UnmarshalBinary(raw))
		l.paired = append(l.paired, p)
	}
	return l, err
}

func (w *work) journalPath(i int) string { return w.path(workJournal, fmt.Sprintf("%05d.jsonl", i)) }

// writeJournal writes the journal of a file that is on the disk.
func (w *work) writeJournal(i int, p part, entries []entry) error {
	return disk.Replace(w.journalPath(i), 0o644, func(out io.Writer) error {
		encoder := json.NewEncoder(out)
		if err := encoder.Encode(p); err != nil {
			return err
		}
		for _, e := range entries {
			if err := encoder.Encode(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// parts are those of the journals.
func (w *work) parts() ([]part, error) {
	var parts []part
	for {
		p, f, _, err := w.openJournal(len(parts))
		if errors.Is(err, fs.ErrNotExist) {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
}

// openJournal opens a journal behind its first line.
func (w *work) openJournal(i int) (p part, f *os.File, lines *json.Decoder, err error) {
	if f, err = disk.Open(w.journalPath(i)); err != nil {
		return p, nil, nil, err
	}
	lines = json.NewDecoder(bufio.NewReaderSize(f, 1<<20))
	if err := lines.Decode(&p); err != nil {
		return p, nil, nil, errors.Join(fmt.Errorf("%s: %w", w.journalPath(i), err), f.Close())
	}
	return p, f, lines, nil
}

// entries yields what the journals of some files have of rows, with the number of the file.
func (w *work) entries(files int) iter.Seq2[int, entryOrError] {
	return func(yield func(int, entryOrError) bool) {
		for i := range files {
			_, f, lines, err := w.openJournal(i)
			for err == nil {
				var e entry
				if err = lines.Decode(&e); err == nil && !yield(i, entryOrError{entry: e}) {
					_ = f.Close()
					return
				}
			}
			if f != nil {
				_ = f.Close()
			}
			if !errors.Is(err, io.EOF) {
				yield(i, entryOrError{err: fmt.Errorf("%s: %w", w.journalPath(i), err)})
				return
			}
		}
	}
}

type entryOrError struct {
	entry
	err error
}

// clean removes what a build that was killed left unfinished, and fails if a finished file is missing.
func (w *work) clean(parts []part) error {
	known := map[string]bool{}
	count := map[string]int{}
	for _, p := range parts {
		if p.Rows > 0 {
			count[p.Split]++
		}
	}
	for _, p := range parts {
		if p.Rows == 0 {
			continue
		}
		found := false
		for _, name := range []string{p.name(), p.lastName(count[p.Split])} {
			info, err := os.Stat(w.path(workSet, dataFolder, name))
			if err == nil && info.Size() == p.Bytes {
				known[name], found = true, true
			}
		}
		if !found {
			return fmt.Errorf("%s is missing or cut off, though it was finished: remove %s to begin anew",
				w.path(workSet, dataFolder, p.name()), w.dir)
		}
	}
	entries, err := os.ReadDir(w.path(workSet, dataFolder))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !known[e.Name()] {
			if err := os.Remove(w.path(workSet, dataFolder, e.Name())); err != nil {
				return err
			}
		}
	}
	// What was being written beside its name.
	journals, err := os.ReadDir(w.path(workJournal))
	if err != nil {
		return err
	}
	for _, e := range journals {
		if strings.HasPrefix(e.Name(), ".") {
			err = errors.Join(err, os.Remove(w.path(workJournal, e.Name())))
		}
	}
	return err
}
