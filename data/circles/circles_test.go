package circles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"limner/data"
	"limner/data/imaging"
)

func testSet() Set {
	c := Default()
	c.Count, c.Size, c.Seed, c.RowsPerShard = 50, 32, 7, 20
	return c
}

// writeTestSet writes a set of three shards and returns its folder.
func writeTestSet(t testing.TB, c Set) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "circles")
	if err := Write(context.Background(), c, dir, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestExampleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Default()
		c.Size = rapid.IntRange(16, 96).Draw(t, "size")
		c.Seed = rapid.Uint64().Draw(t, "seed")
		c.Palette = rapid.SampledFrom([]string{imaging.PaletteBasic, imaging.PaletteCSS}).Draw(t, "palette")
		i := rapid.IntRange(0, 1<<30).Draw(t, "i")
		e := c.Example(i)
		if e != c.Example(i) {
			t.Fatal("not a function of its arguments")
		}
		if e.Disc.RGB == e.Background.RGB {
			t.Fatalf("both colours are %s", e.Disc.Name)
		}
		if want := e.Disc.Name + " circle with " + e.Background.Name + " background"; e.Caption() != want {
			t.Fatalf("caption %q, want %q", e.Caption(), want)
		}
		size := float64(c.Size)
		if e.Radius < 0.11*size || e.Radius > 0.36*size {
			t.Fatalf("radius %v of %v", e.Radius, size)
		}
		for _, at := range []float64{e.X, e.Y} {
			if at < 0.7*e.Radius || at > size-0.7*e.Radius {
				t.Fatalf("centre at %v with radius %v in %v", at, e.Radius, size)
			}
		}
	})
}

// The picture shows the disc where the mask says, and its outline lies on the condition.
func TestCirclePictures(t *testing.T) {
	c := testSet()
	for i := range 20 {
		e := c.Example(i)
		image, condition, mask := e.Image(), e.Condition(), e.Mask()
		area, bright := 0, 0.0
		for p, in := range mask {
			x, y := float64(p%c.Size)+0.5, float64(p/c.Size)+0.5
			far := math.Abs(math.Hypot(x-e.X, y-e.Y) - e.Radius)
			got := [3]uint8(image.Pix[p*3:])
			if want := map[bool][3]uint8{true: e.Disc.RGB, false: e.Background.RGB}[in]; far > 1 && got != want {
				t.Fatalf("example %d, pixel %d: %v, want %v", i, p, got, want)
			}
			if far > 2 && condition.Pix[p*3] != 0 {
				t.Fatalf("example %d, pixel %d: outline %v at %.1f from the edge", i, p, condition.Pix[p*3], far)
			}
			if in {
				area++
			}
			bright += float64(condition.Pix[p*3]) / 255
		}
		if whole := math.Pi * e.Radius * e.Radius; float64(area) < 0.8*whole || float64(area) > 1.1*whole {
			t.Errorf("example %d: mask of %d pixels, a disc of %.0f", i, area, whole)
		}
		if line := 2 * math.Pi * e.Radius; bright < 0.5*line || bright > 2*line {
			t.Errorf("example %d: outline of %.0f pixels along %.0f", i, bright, line)
		}
	}
}

func TestExamplesDiffer(t *testing.T) {
	c := testSet()
	seen := map[Circle]bool{}
	for i := range 1000 {
		seen[c.Example(i)] = true
	}
	c.Seed++
	for i := range 1000 {
		seen[c.Example(i)] = true
	}
	if len(seen) < 1990 {
		t.Errorf("%d different examples of 2000", len(seen))
	}
}

func TestWriteReadsBack(t *testing.T) {
	c := testSet()
	dir := filepath.Join(t.TempDir(), "deep", "circles")
	var calls []string
	err := Write(context.Background(), c, dir, func(done, total int) {
		calls = append(calls, fmt.Sprintf("%d/%d",
			done, total))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(calls, " "); got != "20/50 40/50 50/50" {
		t.Errorf("progress %s", got)
	}
	d, err := data.Open([]string{dir}, data.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Len() != c.Count {
		t.Fatalf("%d rows, want %d", d.Len(), c.Count)
	}
	for i := range c.Count {
		r, err := d.Row(i)
		if err != nil {
			t.Fatal(err)
		}
		e := c.Example(i)
		if r.Caption != e.Caption() || !bytes.Equal(r.Image.Pix, e.Image().Pix) ||
			!bytes.Equal(r.Conditioning.Pix, e.Condition().Pix) {
			t.Fatalf("row %d is not example %d", i, i)
		}
	}
	const want = `{"info": {"features": {"image": {"_type": "Image"}, ` +
		`"conditioning_image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}}}`
	if features, err := lookup(filepath.Join(dir, c.shardName(0)), "huggingface"); err != nil || features != want {
		t.Errorf("features %s, %v", features, err)
	}
}

func TestWriteSameBytes(t *testing.T) {
	c := testSet()
	a, b := writeTestSet(t, c), writeTestSet(t, c)
	for shard := range c.shards() {
		x, err := os.ReadFile(filepath.Join(a, c.shardName(shard)))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(b, c.shardName(shard)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs between two runs", c.shardName(shard))
		}
	}
}

func TestWriteOutputFolder(t *testing.T) {
	c := testSet()
	other := c
	other.Seed++
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, dir string)
		want    string // of the error; "" for success
	}{
		"absent": {func(t *testing.T, dir string) {}, ""},
		"empty":  {func(t *testing.T, dir string) { mkdir(t, dir) }, ""},
		"same":   {func(t *testing.T, dir string) { write(t, c, dir) }, ""},
		"other":  {func(t *testing.T, dir string) { write(t, other, dir) }, `holds another set (train-00000-of-00003.parquet`},
		"partial": {func(t *testing.T, dir string) {
			write(t, c, dir)
			if err := os.Remove(filepath.Join(dir, c.shardName(2))); err != nil {
				t.Fatal(err)
			}
		}, "holds 2 of 3 files"},
		"foreign": {func(t *testing.T, dir string) {
			mkdir(t, dir)
			if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "holds something else (thesis.txt, 1 entries in all)"},
		"foreign shard": {func(t *testing.T, dir string) {
			mkdir(t, dir)
			if err := os.WriteFile(filepath.Join(dir, c.shardName(0)), []byte("no parquet at all"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "holds something else: open "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			tc.prepare(t, dir)
			err := Write(context.Background(), c, dir, nil)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			checkAlone(t, dir)
		})
	}
}

func TestWriteCancelled(t *testing.T) {
	c := testSet()
	dir := filepath.Join(t.TempDir(), "out")
	ctx, cancel := context.WithCancel(context.Background())
	err := Write(ctx, c, dir, func(int, int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder is left: %v", err)
	}
	checkAlone(t, dir)
}

func TestValidate(t *testing.T) {
	err := Set{Count: 0, Size: 3, Palette: "pastel", RowsPerShard: -1}.Validate()
	for _, want := range []string{"count 0", "size 3", `palette "pastel"`, "rows per shard -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, c Set, dir string) {
	t.Helper()
	if err := Write(context.Background(), c, dir, nil); err != nil {
		t.Fatal(err)
	}
}

// checkAlone fails if anything but dir is left beside it.
func checkAlone(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(dir) {
			t.Errorf("%s is left beside the output", e.Name())
		}
	}
}
