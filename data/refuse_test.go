package data

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/imaging"
)

// A dataset without a usable row at its beginning, or with fewer rows than a batch, is refused before a batch is asked
// for.
func TestRefusedDatasets(t *testing.T) {
	good, err := imaging.EncodePNG(imaging.NewRGB(16, 16))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		rows, firstGood, batch int
		batches, want          string
	}{
		"all good":      {3, 0, 2, "", ""},
		"one bad":       {3, 1, 2, "", ""},
		"the last good": {32, 31, 2, "", ""},
		"all bad":       {3, 3, 2, "", "none of the 3 rows can be used, the first: "},
		"bad beginning": {40, 39, 2, "", "none of the first 32 rows can be used, the first: "},
		"large batch":   {3, 0, 4, "batch size 4 is more than the 3 rows of the dataset: use a smaller one", ""},
		"larger batch":  {3, 0, 1_000_000_000, "batch size 1000000000 is more than the 3 rows", ""},
	} {
		dir := t.TempDir()
		for i := range c.rows {
			raw := good
			if i < c.firstGood {
				raw = good[:40]
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.png", i)), raw, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		o := DefaultOptions()
		o.NeedConditioning, o.NoCaptions, o.Resolution, o.BatchSize = false, true, 8, c.batch
		d, err := Open([]string{dir}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for _, check := range []struct {
			got  error
			want string
		}{{d.CheckRows(), c.want}, {d.CheckBatches(), c.batches}} {
			if (check.got == nil) != (check.want == "") ||
				check.got != nil && !strings.Contains(check.got.Error(), check.want) {
				t.Errorf("%s: got %v, want %q", name, check.got, check.want)
			}
		}
	}
}
