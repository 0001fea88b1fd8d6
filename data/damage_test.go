package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
)

func TestOpenRejects(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(filepath.Join(writeCircles(t, smallCircles()), "train-00000-of-00003.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	hugeFooter := slices.Clone(whole)
	copy(hugeFooter[len(hugeFooter)-8:], "\xff\xff\xff\x7f")
	for name, tc := range map[string]struct {
		raw  []byte
		want string
	}{
		"cut.parquet":    {whole[:len(whole)/2], "not a parquet file, or cut off"},
		"empty.parquet":  {nil, "0 bytes: not a parquet file"},
		"footer.parquet": {hugeFooter, "footer of 2147483647 bytes"},
		"front.parquet":  {whole[2000:], "invalid magic header"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tc.raw, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open([]string{path}, testOptions()); err == nil || !strings.Contains(err.Error(), tc.want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
	for _, paths := range [][]string{nil, {filepath.Join(dir, "absent")}, {t.TempDir()}} {
		if _, err := Open(paths, testOptions()); err == nil {
			t.Errorf("%q opened", paths)
		}
	}
	o := Options{Resolution: -1, BatchSize: -2, Prefetch: -4}
	o.Reading = Reading{Workers: -3, BufferBytes: -5, Interpolation: "cubic"}
	_, err = Open([]string{dir}, o)
	for _, want := range []string{
		"image_column", "caption_column", "resolution -1", "batch size -2", "workers -3", "prefetch -4", "buffer of -5",
		`image_interpolation_mode: resampling filter "cubic": want nearest, box, bilinear`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
}

// Damage inside a column makes the rows behind it bad, and nothing worse.
func TestDamagedPages(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(writeCircles(t, smallCircles()), "train-00000-of-00003.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	copy(whole[4:], strings.Repeat("\xff", 64)) // the first page header of image.bytes
	path := filepath.Join(t.TempDir(), "damaged.parquet")
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, path, testOptions())
	_, err = d.Row(0)
	if want := "damaged.parquet row 0: image, row group 0: "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	t.Log(err)
}

func FuzzParquet(f *testing.F) {
	paths, err := filepath.Glob(golden.Path(f, "parquet", "*.parquet"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) { readAll(t, raw) })
}

// readAll opens bytes as a parquet file and reads its rows; only a panic fails.
func readAll(t *testing.T, raw []byte) {
	path := filepath.Join(t.TempDir(), "fuzz.parquet")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	o.BufferBytes = 8 << 10
	d, err := Open([]string{path}, o)
	if err != nil {
		return
	}
	defer d.Close()
	for i := range min(d.Len(), 100) {
		if _, err := d.Row(i); err == nil {
			continue
		} else if !strings.Contains(err.Error(), fmt.Sprintf("row %d: ", i)) {
			t.Fatalf("row %d is not named: %v", i, err)
		}
	}
}

// TestMutatedParquet flips bytes of a real file throughout.
func TestMutatedParquet(t *testing.T) {
	whole, err := os.ReadFile(golden.Path(t, "parquet", "rowgroups_snappy.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 160 {
		raw := slices.Clone(whole)
		at := newPermutation(uint64(len(raw)), 1).at(uint64(i))
		if i%2 == 0 { // half of them in the footer
			at = uint64(len(raw)) - 1 - at%4000
		}
		raw[at] ^= byte(1 + mix64(uint64(i))%255)
		readAll(t, raw)
	}
}
