package data

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func contentIn(t *testing.T, dir string) Content {
	t.Helper()
	o := testOptions()
	o.NeedConditioning = false
	c, err := openTest(t, dir, o).Content()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A picture that was replaced by another one of equal size is seen; where the folder lies and when its files were
// written makes no difference.
func TestContent(t *testing.T) {
	dir := slopes(t, 3, 16, 16)
	was := contentIn(t, dir)
	if was.Stamps != "" {
		t.Errorf("a small dataset is read in samples: %+v", was)
	}
	if got := contentIn(t, slopes(t, 3, 16, 16)); got != was {
		t.Errorf("a copy has the content %v, want %v", got, was)
	}
	path := filepath.Join(dir, "01.png")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if contentIn(t, dir) == was {
		t.Error("a changed byte is not seen")
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	contentIn(t, dir) // a row gone bad, and no reason to end
}

// Of parquet files the columns that are read count, and no others.
func TestContentOfParquet(t *testing.T) {
	rows := badRows(t, 6, 0, 1, 2, 3, 4, 5)
	content := func(o Options) Content {
		t.Helper()
		c, err := openTest(t, writeRows(t, rows), o).Content()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	all, images := testOptions(), testOptions()
	all.Resolution, images.Resolution, images.NeedConditioning = 0, 0, false
	wasAll, wasImages := content(all), content(images)
	if wasAll == wasImages {
		t.Error("another column more, and the same content")
	}
	raw := bytes.Clone(rows[4].ConditioningImage.Bytes)
	raw[len(raw)/2] ^= 1
	rows[4].ConditioningImage.Bytes = raw
	if content(all) == wasAll {
		t.Error("a changed byte of a conditioning image is not seen")
	}
	if content(images) != wasImages {
		t.Error("a column that is not read counts")
	}
}

// Of large datasets blocks of each file are compared, its last among them, and changed times are told.
func TestContentInSamples(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	raw := bytes.Repeat([]byte{7}, sampleEvery+3*sampleBytes)
	sample := func(change int) Content {
		t.Helper()
		changed := bytes.Clone(raw)
		changed[change]++
		if err := os.WriteFile(path, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(1000+change), 0)); err != nil {
			t.Fatal(err)
		}
		c, err := contentOf([]extent{{path: path, size: int64(len(changed))}}, false, 2)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	was := sample(sampleBytes) // between samples, as the next
	for change, seen := range map[int]bool{
		0: true, sampleBytes - 1: true, sampleBytes + 1: false, sampleEvery: true,
		sampleEvery + 2*sampleBytes: true, len(raw) - 1: true,
	} {
		got := sample(change)
		if (got.Sum != was.Sum) != seen {
			t.Errorf("byte %d: seen %v, want %v", change, !seen, seen)
		}
		if got.Stamps == was.Stamps {
			t.Errorf("byte %d: the file's time is not told", change)
		}
	}
	for size := range int64(3) { // files smaller than a block
		if err := os.WriteFile(path, raw[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := contentOf([]extent{{path: path, size: size}}, false, 1); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkContentInSamples(b *testing.B) {
	dir := b.TempDir()
	var all []extent
	for i := range 1000 {
		path := filepath.Join(dir, string(rune('a'+i%26))+time.Duration(i).String())
		if err := os.WriteFile(path, make([]byte, 200<<10), 0o644); err != nil {
			b.Fatal(err)
		}
		all = append(all, extent{path: path, size: 200 << 10})
	}
	for b.Loop() {
		if _, err := contentOf(all, false, 8); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(all))/b.Elapsed().Seconds(), "files/s")
}
