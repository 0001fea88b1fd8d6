package data

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSplitOf(t *testing.T) {
	for path, want := range map[string]Split{
		"train-00000-of-00001.parquet": SplitTrain, "test.parquet": SplitTest,
		"data/validation-00000-of-00001.parquet": SplitValidation, "my_dataset_dev_2.parquet": SplitValidation,
		"Train.parquet": SplitTrain, "train3.parquet": SplitTrain, "default/test/0000.parquet": SplitTest,
		"train/eval.parquet": SplitTest, "evaluation.csv": SplitTest, "trains.parquet": "", "attest.parquet": "",
		"contest-1.parquet": "", "0000.parquet": "", "": "",
	} {
		if got := splitOf(filepath.FromSlash(path)); got != want {
			t.Errorf("%s: split %q, want %q", path, got, want)
		}
	}
}

// makeFolder makes a folder: parquet files of the rows that their names give, other files empty.
func makeFolder(t *testing.T, files map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	for name, rows := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) != ".parquet" {
			writeFile(t, path, "")
			continue
		}
		if err := os.Rename(writeRows(t, badRows(t, rows)), path); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What is read of a folder, what the log says, and where it is refused.
func TestSplitsAreToldApart(t *testing.T) {
	const columns = ", columns image, conditioning_image, text"
	snapshot := map[string]int{
		"README.md": 0, ".gitattributes": 0, "data/train-00000-of-00001.parquet": 4,
		"data/validation-00000-of-00001.parquet": 2,
	}
	for name, c := range map[string]struct {
		files   map[string]int
		heldOut bool
		rows    int
		says    string // the log without the folder, or the error
	}{
		"train beside test": {map[string]int{"train.parquet": 4, "test.parquet": 2}, false, 4,
			"training data: DIR: 4 rows in 1 file of the split train (train.parquet)" + columns +
				"; passed over: test.parquet (split test)"},
		"held out of these": {map[string]int{"train.parquet": 4, "test.parquet": 2}, true, 2,
			"held-out data: DIR: 2 rows in 1 file of the split test (test.parquet)" + columns + "; passed over: " +
				"train.parquet (split train)"},
		"a snapshot": {snapshot, false, 4,
			"training data: DIR: 4 rows in 1 file of the split train (data/train-00000-of-00001.parquet)" +
				columns + "; passed over: data/validation-00000-of-00001.parquet (split validation)"},
		"held out of a snapshot": {snapshot, true, 2,
			"held-out data: DIR: 2 rows in 1 file of the split validation (data/validation-00000-of-00001.parquet)" +
				columns + "; passed over: data/train-00000-of-00001.parquet (split train)"},
		"no splits": {
			map[string]int{"b.parquet": 1, "a.parquet": 2, "sub/c.parquet": 3, "x.bmp": 0, "y.BMP": 0, "LICENSE": 0},
			false, 3, "training data: DIR: 3 rows in 2 files (a.parquet, b.parquet)" + columns + "; passed over: " +
				"2 × .bmp (x.bmp, y.BMP), 1 × file without extension (LICENSE), 1 × folder (sub)",
		},
		"validation before test": {map[string]int{"test.parquet": 1, "val.parquet": 2, "train.parquet": 3}, true, 2,
			"held-out data: DIR: 2 rows in 1 file of the split validation (val.parquet)" + columns + "; passed over: " +
				"test.parquet (split test), train.parquet (split train)"},
		"a folder held out as a whole": {
			map[string]int{"train-0.parquet": 3}, true, 3,
			"held-out data: DIR: 3 rows in 1 file of the split train (train-0.parquet)" + columns,
		},
		"no split beside train": {map[string]int{"train.parquet": 3, "more.parquet": 1}, false, 3,
			"training data: DIR: 3 rows in 1 file of the split train (train.parquet)" + columns +
				"; passed over: more.parquet"},
		"test alone": {
			map[string]int{"test.parquet": 2}, false, -1,
			"DIR has no split train, only test (test.parquet): to train on it, give --split test",
		},
		"no split beside test": {
			map[string]int{"test.parquet": 2, "cats.parquet": 2}, false, -1,
			"DIR does not say which of its files are meant: cats.parquet of no split, " +
				"test.parquet of the split test; choose with --split, or name the files",
		},
		"images of no format that is read": {map[string]int{"a.heic": 0, "b.psd": 0, "c/d.heic": 0}, false, -1,
			"DIR holds no dataset that is read: it has 1 × .heic (a.heic), 1 × .psd (b.psd), 1 × folder (c). " +
				"Read are *.parquet, *.arrow and *.tar files, images (.png, .jpg, .jpeg, .gif, .webp, .bmp, .tif, " +
				".tiff) with captions beside them, and images that a metadata.jsonl, metadata.csv, prompt.json or " +
				"train.jsonl names"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := makeFolder(t, c.files)
			var log bytes.Buffer
			o := testOptions()
			o.Resolution, o.HeldOut, o.Log = 0, c.heldOut, &log
			d, err := Open([]string{dir}, o)
			got := strings.TrimSuffix(log.String(), "\n")
			if err != nil {
				got = err.Error()
			}
			if got = filepath.ToSlash(strings.ReplaceAll(got, dir, "DIR")); got != c.says {
				t.Errorf("got  %s\nwant %s", got, c.says)
			}
			if (err != nil) != (c.rows < 0) {
				t.Fatalf("error %v, want %d rows", err, c.rows)
			}
			if err != nil {
				return
			}
			defer d.Close()
			if d.Len() != c.rows {
				t.Errorf("%d rows, want %d", d.Len(), c.rows)
			}
		})
	}
}

// A folder that training and the held-out rows share is seen, whatever it is called.
func TestShares(t *testing.T) {
	dir := makeFolder(t, map[string]int{"train.parquet": 2, "test.parquet": 2})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(dir, "train.parquet"), link); err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	o.Resolution = 0
	trained := openTest(t, dir, o)
	if shared, err := openTest(t, link, o).Shares(trained); err != nil || shared != link {
		t.Errorf("got %q (%v), want %s", shared, err, link)
	}
	o.HeldOut = true
	if shared, err := openTest(t, dir, o).Shares(trained); err != nil || shared != "" {
		t.Errorf("got %q (%v)", shared, err)
	}
}

func TestImageFolderSaysWhatIsPassedOver(t *testing.T) {
	dir := slopes(t, 2, 16, 16)
	for _, name := range []string{"extra.png", "photo.bmp", "notes.txt"} {
		writeFile(t, filepath.Join(dir, name), "")
	}
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o := testOptions()
	o.NeedConditioning, o.Log = false, &log
	openTest(t, dir, o)
	want := fmt.Sprintf("training data: %s: 2 rows in 1 file (metadata.jsonl), columns conditioning_image, file_name, "+
		"mask, text; passed over: 1 × .bmp (photo.bmp), 1 × .png (extra.png), "+
		"1 × .txt (notes.txt), 1 × folder (more)\n", dir)
	if got := log.String(); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// A stranger's folder holds what it likes.
func TestFoldersOfStrangers(t *testing.T) {
	utf16 := "\xff\xfe"
	for _, b := range []byte(`{"file_name": "00.png", "text": "wide"}` + "\r\n") {
		utf16 += string([]byte{b, 0})
	}
	const row = `{"file_name": "00.png", "text": %q}`
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string)
		want    string // in the error; "" opens
		caption string
	}{
		"a pipe": {
			func(t *testing.T, dir string) { fifo(t, filepath.Join(dir, "00.png")) }, "00.png: not a regular file", "",
		},
		"a device": {
			func(t *testing.T, dir string) { link(t, "/dev/zero", filepath.Join(dir, "00.png")) },
			"00.png: not a regular file", "",
		},
		"metadata a pipe": {
			func(t *testing.T, dir string) { fifo(t, filepath.Join(dir, metadataName)) },
			"not a regular file but a pipe", "",
		},
		"a long caption": {
			metadata(fmt.Sprintf(row, strings.Repeat("x", maxCaption+1))),
			"line 1: a caption of 65537 bytes: at most 65536 are read", "",
		},
		"a long line": {
			metadata(`{"file_name": "00.png", "text": "x", "more": "` + strings.Repeat("x", maxLine) + `"}`),
			"at most 1048576 are read of a line", "",
		},
		"Latin-1": {
			metadata("\n" + `{"file_name": "00.png", "text": "caf` + "\xe9\"}"),
			"line 2, byte 37: byte 0xe9 is not UTF-8", "",
		},
		"a mark and CRLF":  {metadata("\xef\xbb\xbf" + fmt.Sprintf(row, "marked") + "\r\n\r\n"), "", "marked"},
		"UTF-16":           {metadata(utf16), "", "wide"},
		"captions, UTF-16": {captionText("\xff\xfea\x00\r\x00\n\x00"), "", "a"},
		"captions, marked": {captionText("\xef\xbb\xbfa b\r\n"), "", "a b"},
		"captions, Latin":  {captionText("caf\xe9"), "00.txt: line 1, byte 4: byte 0xe9 is not UTF-8", ""},
		"captions, long":   {captionText(strings.Repeat("x", maxCaption+1)), "00.txt: 65537 bytes, at most 65536", ""},
		"captions, a pipe": {func(t *testing.T, dir string) {
			captionText("")(t, dir)
			fifo(t, filepath.Join(dir, "00.txt"))
		}, "not a regular file but a pipe", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := slopes(t, 1, 16, 16)
			c.prepare(t, dir)
			o := testOptions()
			o.NeedConditioning = false
			d, err := Open([]string{dir}, o)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if err != nil {
				return
			}
			defer d.Close()
			if r, err := d.Row(0); err != nil || r.Caption != c.caption {
				t.Errorf("caption %q (%v), want %q", r.Caption, err, c.caption)
			}
		})
	}
	pipe := filepath.Join(t.TempDir(), "rows.parquet")
	fifo(t, pipe)
	if _, err := Open([]string{pipe}, testOptions()); err == nil ||
		!strings.Contains(err.Error(), "not a regular file but a pipe") {
		t.Errorf("a pipe of rows: %v", err)
	}
}

// Captions of parquet files are held to the same.
func TestCaptionsOfParquet(t *testing.T) {
	rows := badRows(t, 4, 0, 1, 2, 3)
	for i, caption := range []string{"\xef\xbb\xbfmarked", "caf\xe9", strings.Repeat("x", maxCaption+1), "fine"} {
		rows[i].Text = caption
	}
	o := testOptions()
	o.NeedConditioning = false
	d := openTest(t, writeRows(t, rows), o)
	for i, want := range []string{
		"marked", "text: line 1, byte 4: byte 0xe9 is not UTF-8", "text: 65537 bytes: at most 65536 are read", "fine",
	} {
		r, err := d.Row(i)
		if err != nil {
			r.Caption = err.Error()
		}
		if !strings.HasSuffix(r.Caption, want) && !strings.Contains(r.Caption, want) {
			t.Errorf("row %d: %q, want %q", i, r.Caption, want)
		}
	}
}

func fifo(t *testing.T, path string) {
	t.Helper()
	_ = os.Remove(path)
	if err := unix.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	_ = os.Remove(path)
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func metadata(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, metadataName), text) }
}

func captionText(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, metadataName)); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "00.txt"), text)
	}
}
