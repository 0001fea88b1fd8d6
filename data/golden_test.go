package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"limner/data/imaging"
	"limner/internal/golden"
)

// parquetGolden is an entry of parquet/index.json.
type parquetGolden struct {
	Rows   int
	Expect json.RawMessage
}

type rowGolden struct {
	Text         string
	Image        string `json:"image_sha256_rgb"`
	Conditioning string `json:"conditioning_sha256_rgb"`
}

func openGolden(t testing.TB, name string) *Dataset {
	t.Helper()
	d, err := Open([]string{golden.Path(t, "parquet", name+".parquet")}, DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestGoldenParquet(t *testing.T) {
	var index map[string]parquetGolden
	golden.ReadJSON(t, &index, "parquet", "index.json")
	if len(index) == 0 {
		t.Fatal("no files in parquet/index.json")
	}
	for name, g := range index {
		t.Run(name, func(t *testing.T) {
			d := openGolden(t, name)
			if d.Len() != g.Rows {
				t.Fatalf("%d rows, want %d", d.Len(), g.Rows)
			}
			var rows []rowGolden
			if string(g.Expect) == "null" {
				checkJPEG(t, d, name)
				return
			}
			if g.Expect[0] == '{' {
				checkCorrupt(t, d, g.Expect)
				return
			}
			if err := json.Unmarshal(g.Expect, &rows); err != nil {
				t.Fatal(err)
			}
			for i, want := range rows {
				r, err := d.Row(i)
				if err != nil {
					t.Fatal(err)
				}
				got := rowGolden{Text: r.Caption, Image: hashOf(r.Image), Conditioning: hashOf(r.Conditioning)}
				if got != want {
					t.Errorf("row %d: got %+v, want %+v", i, got, want)
				}
			}
			if bad := d.Report().Bad; len(bad) > 0 {
				t.Errorf("bad rows: %v", bad)
			}
		})
	}
}

func hashOf(m *imaging.RGB) string {
	sum := sha256.Sum256(m.Pix)
	return hex.EncodeToString(sum[:])
}

// checkCorrupt reads every row: the unusable ones must fail and be reported, the others not.
func checkCorrupt(t *testing.T, d *Dataset, raw json.RawMessage) {
	var want struct {
		Rows     map[string]string
		Unusable []int
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	unusable := map[int]bool{}
	for _, i := range want.Unusable {
		unusable[i] = true
	}
	for i := range d.Len() {
		_, err := d.Row(i)
		if (err != nil) != unusable[i] {
			t.Errorf("row %d (%s): error %v", i, want.Rows[strconv.Itoa(i)], err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("row %d: ", i)) {
			t.Errorf("row %d is not named: %v", i, err)
		}
		t.Logf("row %d (%s): %v", i, want.Rows[strconv.Itoa(i)], err)
	}
	report := d.Report()
	if len(report.Bad) != len(want.Unusable) {
		t.Fatalf("reported %v, want the rows %v", report.Bad, want.Unusable)
	}
	for i, b := range report.Bad {
		if b.Row != int64(want.Unusable[i]) || b.Reason == "" {
			t.Errorf("reported %v, want row %d", b, want.Unusable[i])
		}
	}
}

// checkJPEG compares with libjpeg-turbo's pixels at INDEX.md's tolerance.
func checkJPEG(t *testing.T, d *Dataset, name string) {
	pixels := golden.Tensors(t, golden.Path(t, "parquet", name+"_pixels.safetensors"))
	if len(pixels) == 0 {
		t.Fatal("no tensors")
	}
	for key, want := range pixels {
		column, number, _ := strings.Cut(key, ".")
		i, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("key %q: %v", key, err)
		}
		r, err := d.Row(i)
		if err != nil {
			t.Fatal(err)
		}
		m := r.Image
		if column == "conditioning" {
			m = r.Conditioning
		}
		if m.Height != want.Shape[0] || m.Width != want.Shape[1] {
			t.Fatalf("%s: %d×%d, want %v", key, m.Height, m.Width, want.Shape)
		}
		sum, within, most := 0, 0, 0
		for j, v := range want.Data {
			diff := max(int(v)-int(m.Pix[j]), int(m.Pix[j])-int(v))
			sum, most = sum+diff, max(most, diff)
			if diff <= 6 {
				within++
			}
		}
		mean, share := float64(sum)/float64(len(want.Data)), float64(within)/float64(len(want.Data))
		if mean > 1 || share < 0.99 {
			t.Errorf("%s: mean difference %.2f levels (want at most 1), %.2f %% within 6 (want 99), largest %d",
				key, mean, share*100, most)
		}
		t.Logf("%s: mean difference %.3f levels, largest %d", key, mean, most)
	}
}
