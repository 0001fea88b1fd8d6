package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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

func hashOf(m *RGB) string {
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
	pixels := readTensors(t, golden.Path(t, "parquet", name+"_pixels.safetensors"))
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
		if m.Height != want.shape[0] || m.Width != want.shape[1] {
			t.Fatalf("%s: %d×%d, want %v", key, m.Height, m.Width, want.shape)
		}
		sum, within, most := 0, 0, 0
		for j, v := range want.data {
			diff := max(int(v)-int(m.Pix[j]), int(m.Pix[j])-int(v))
			sum, most = sum+diff, max(most, diff)
			if diff <= 6 {
				within++
			}
		}
		mean, share := float64(sum)/float64(len(want.data)), float64(within)/float64(len(want.data))
		if mean > 1 || share < 0.99 {
			t.Errorf("%s: mean difference %.2f levels (want at most 1), %.2f %% within 6 (want 99), largest %d", key, mean, share*100, most)
		}
		t.Logf("%s: mean difference %.3f levels, largest %d", key, mean, most)
	}
}

func TestGoldenResize(t *testing.T) {
	dir := golden.Path(t, "images")
	tensors := readTensors(t, filepath.Join(dir, "resize.safetensors"))
	filters := map[string]Filter{}
	for _, f := range []Filter{Nearest, Box, Bilinear, Hamming, Bicubic, Lanczos} {
		filters["pil_"+string(f)+"_down"], filters["pil_"+string(f)+"_up"] = f, f
	}
	done := 0
	for key, want := range tensors {
		name, what, _ := strings.Cut(key, ".")
		raw, err := os.ReadFile(filepath.Join(dir, name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		height, width := want.shape[1], want.shape[2]
		switch {
		case want.shape[0] != 3: // alpha and gray: not ours
			continue
		case what == "train_crop":
			m, err = Fit(m, height)
		case what == "train_resize_only":
			w, h := FitSize(m.Width, m.Height, min(width, height))
			m, err = Resize(m, w, h, Bilinear)
		case what == "vae_processor":
			m, err = Resize(m, width, height, Lanczos)
		case what == "train_pixel_values" || what == "train_conditioning":
			if m, err = Fit(m, height); err == nil {
				got := AppendCondition(nil, m)
				if what == "train_pixel_values" {
					got = AppendPixels(nil, m)
				}
				compareFloats(t, key, want, got)
			}
		case filters[what] != "":
			if strings.HasSuffix(what, "_up") {
				m = Crop(m, 3, 5, 40-3, 33-5)
			}
			m, err = Resize(m, width, height, filters[what])
		default:
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if done++; want.dtype == "U8" {
			compareBytes(t, key, want, m)
		}
	}
	if done == 0 {
		t.Fatal("no case in resize.safetensors")
	}
}

func compareBytes(t *testing.T, key string, want tensor, m *RGB) {
	t.Helper()
	if m.Height != want.shape[1] || m.Width != want.shape[2] {
		t.Errorf("%s: %d×%d, want %v", key, m.Height, m.Width, want.shape)
		return
	}
	for i, v := range want.data { // channels first
		c, at := i/(m.Width*m.Height), i%(m.Width*m.Height)
		if got := m.Pix[at*3+c]; got != v {
			t.Errorf("%s: channel %d, x %d, y %d: got %d, want %d", key, c, at%m.Width, at/m.Width, got, v)
			return
		}
	}
}

func compareFloats(t *testing.T, key string, want tensor, got []float32) {
	t.Helper()
	plane := len(got) / 3
	for i := range got {
		c, at := i/plane, i%plane
		w := math.Float32frombits(binary.LittleEndian.Uint32(want.data[i*4:]))
		if g := got[at*3+c]; g != w {
			t.Errorf("%s: element %d: got %v, want %v", key, i, g, w)
			return
		}
	}
}

type tensor struct {
	dtype string
	shape []int
	data  []byte
}

// readTensors reads the little of safetensors that the goldens need.
func readTensors(t testing.TB, path string) map[string]tensor {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		Dtype   string
		Shape   []int
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.NewDecoder(bytes.NewReader(raw[8 : 8+size])).Decode(&header); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	out := map[string]tensor{}
	for key, h := range header {
		if key != "__metadata__" {
			out[key] = tensor{dtype: h.Dtype, shape: h.Shape, data: raw[8+size:][h.Offsets[0]:h.Offsets[1]]}
		}
	}
	return out
}
