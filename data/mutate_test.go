package data

import (
	"flag"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
)

var mutations = flag.Int("mutations", 60, "damaged files of each kind that TestMutatedDatasets reads")

// A damaged file of any layout is refused, or some of its rows are, by the names of file and row: nothing panics, and
// memory is not taken for what the file only claims.
func TestMutatedDatasets(t *testing.T) {
	for name, file := range mutable {
		t.Run(name, func(t *testing.T) {
			dir, whole, o := mutableDataset(t, name, file)
			for i := range *mutations {
				readDamaged(t, dir, file, mutate(whole, uint64(i)), o)
			}
		})
	}
}

// mutable are goldens with the file of each that is damaged.
var mutable = map[string]string{
	"hf_bytes": "data.parquet", "hf_paths": "data.parquet", "captions_list": "data.parquet", "brotli": "data.parquet",
	"lz4": "data.parquet", "webdataset_multidot": "train.tar", "save_to_disk": "data-00000-of-00001.arrow",
	"jsonl_zip": "images.zip", "metadata_csv": "metadata.csv", "fill50k": promptName,
}

// mutableDataset copies a golden to a folder where a file may be replaced.
func mutableDataset(t testing.TB, name, file string) (dir string, whole []byte, o Options) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden.Path(t, "datasets", name))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	o = testOptions()
	o.BufferBytes = 8 << 10
	return dir, whole, o
}

// mutate damages a file in the way that a number says: bytes are changed, most often at its start or its end, numbers
// become very large, and parts are cut out, doubled or left off.
func mutate(whole []byte, i uint64) []byte {
	raw := slices.Clone(whole)
	draw := func(n int) int {
		i = mix64(i + 0x9e37)
		return int(i % uint64(max(n, 1)))
	}
	for range 1 + draw(3) {
		at := draw(len(raw))
		if near := draw(3); near == 0 {
			at %= 512
		} else if near == 1 {
			at = len(raw) - 1 - at%512
		}
		at = min(max(at, 0), max(len(raw)-1, 0))
		end := min(at+1+draw(64), len(raw))
		switch draw(8) {
		case 0:
			raw = raw[:at]
		case 1:
			raw = slices.Delete(raw, at, end)
		case 2:
			raw = slices.Insert(raw, at, raw[at:end]...)
		case 3:
			copy(raw[at:], []byte{0xff, 0xff, 0xff, 0x7f})
		case 4:
			copy(raw[at:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
		case 5:
			copy(raw[at:], make([]byte, end-at))
		default:
			if len(raw) > 0 {
				raw[at] ^= byte(1 + draw(255))
			}
		}
	}
	return raw
}

// readDamaged opens a dataset with a damaged file, and reads its rows.
func readDamaged(t testing.TB, dir, file string, raw []byte, o Options) {
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	before := allocated()
	d, err := Open([]string{dir}, o)
	if err != nil && !strings.Contains(err.Error(), file) {
		t.Errorf("the file is not named: %v", err)
	}
	if err == nil {
		for i := range min(d.Len(), 40) {
			if _, err := d.Row(i); err != nil && !strings.Contains(err.Error(), " row ") {
				t.Errorf("row %d is not named: %v", i, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	const most = 256 << 20
	if taken := allocated() - before; taken > most {
		t.Errorf("%d bytes of memory for a file of %d", taken, len(raw))
		if err := os.WriteFile(filepath.Join(os.TempDir(), "large-"+file), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// allocated is how many bytes of memory were taken since the start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// fuzzDataset damages the file of a golden.
func fuzzDataset(f *testing.F, name string) {
	file := mutable[name]
	dir, whole, o := mutableDataset(f, name, file)
	f.Add(whole)
	for i := range uint64(20) {
		f.Add(mutate(whole, i))
	}
	f.Fuzz(func(t *testing.T, raw []byte) { readDamaged(t, dir, file, raw, o) })
}

func FuzzArrow(f *testing.F)      { fuzzDataset(f, "save_to_disk") }
func FuzzWebDataset(f *testing.F) { fuzzDataset(f, "webdataset_multidot") }
func FuzzZip(f *testing.F)        { fuzzDataset(f, "jsonl_zip") }
func FuzzCSV(f *testing.F)        { fuzzDataset(f, "metadata_csv") }
func FuzzPrompts(f *testing.F)    { fuzzDataset(f, "fill50k") }
