package data

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"limner/data/circles"
	"limner/data/imaging"
)

func testOptions() Options {
	o := DefaultOptions()
	o.Resolution, o.BatchSize, o.Seed = 32, 8, 3
	return o
}

func openTest(t testing.TB, path string, o Options) *Dataset {
	t.Helper()
	d, err := Open([]string{path}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// take reads batches [start, start+n).
func take(t testing.TB, d *Dataset, start, n int) []*Batch {
	t.Helper()
	b, err := d.Batches(context.Background(), start)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	list := make([]*Batch, n)
	for i := range list {
		if list[i], err = b.Next(); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// sameBatches compares to the bit.
func sameBatches(t *testing.T, what string, want, got []*Batch) {
	t.Helper()
	for i, w := range want {
		g := got[i]
		if g.Index != w.Index || g.Epoch != w.Epoch || !slices.Equal(g.Rows, w.Rows) ||
			!slices.Equal(g.Captions, w.Captions) {
			t.Fatalf("%s: got batch %d with rows %v, want %d with %v", what, g.Index, g.Rows, w.Index, w.Rows)
		}
		if !slices.Equal(g.Pixels, w.Pixels) || !slices.Equal(g.Conditioning, w.Conditioning) ||
			!slices.Equal(g.Masks, w.Masks) || !slices.Equal(g.Views, w.Views) {
			t.Fatalf("%s: batch %d has other pixels", what, w.Index)
		}
	}
}

// writeRows writes a parquet file of the given rows.
func writeRows[T any](t testing.TB, rows []T, options ...parquet.WriterOption) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewGenericWriter[T](f, options...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBatchesHoldTheRowsTheyName(t *testing.T) {
	c := smallCircles()
	d := openTest(t, writeCircles(t, c), testOptions())
	if got, want := d.StepsPerEpoch(), c.Count/8; got != want {
		t.Fatalf("%d steps, want %d", got, want)
	}
	for k, b := range take(t, d, 0, 2*d.StepsPerEpoch()) {
		if b.Index != k || b.Epoch != k/d.StepsPerEpoch() {
			t.Fatalf("batch %d is numbered %d of epoch %d", k, b.Index, b.Epoch)
		}
		var pixels, conditioning []float32
		for i, row := range b.Rows {
			e := c.Example(int(row))
			pixels, conditioning = imaging.AppendPixels(pixels, e.Image()),
				imaging.AppendCondition(conditioning, e.Condition())
			if b.Captions[i] != e.Caption() {
				t.Errorf("batch %d, row %d: caption %q, want %q", k, row, b.Captions[i], e.Caption())
			}
		}
		if !slices.Equal(b.Pixels, pixels) || !slices.Equal(b.Conditioning, conditioning) {
			t.Errorf("batch %d does not hold the pixels of its rows", k)
		}
	}
}

func TestEpochHoldsNoRowTwice(t *testing.T) {
	d := openTest(t, writeCircles(t, smallCircles()), testOptions())
	steps := d.StepsPerEpoch()
	var epochs [2][]int64
	for _, b := range take(t, d, 0, 2*steps) {
		epochs[b.Epoch] = append(epochs[b.Epoch], b.Rows...)
	}
	if slices.Equal(epochs[0], epochs[1]) {
		t.Error("two epochs in one order")
	}
	for e, rows := range epochs {
		slices.Sort(rows)
		if n := len(slices.Compact(slices.Clone(rows))); n != steps*8 {
			t.Errorf("epoch %d: %d different rows, want %d", e, n, steps*8)
		}
	}
}

// The same batches come whatever the workers, and wherever the run begins.
func TestBatchesAreDeterministic(t *testing.T) {
	dir := writeCircles(t, smallCircles())
	for name, buffer := range map[string]int64{"one bucket": 1 << 30, "many buckets": 8 << 10} {
		t.Run(name, func(t *testing.T) {
			o := testOptions()
			o.BufferBytes = buffer
			want := take(t, openTest(t, dir, o), 0, 20)
			for _, workers := range []int{1, 2, 7} {
				o.Workers, o.Prefetch = workers, workers
				sameBatches(t, fmt.Sprintf("%d workers", workers), want, take(t, openTest(t, dir, o), 0, 20))
			}
			for _, k := range []int{1, 5, 6, 13} { // six batches an epoch
				sameBatches(t, fmt.Sprintf("resumed at %d", k), want[k:], take(t, openTest(t, dir, o), k, 20-k))
			}
			o.Seed++
			if slices.Equal(want[0].Rows, take(t, openTest(t, dir, o), 0, 1)[0].Rows) {
				t.Error("another seed, the same rows")
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	o := testOptions()
	o.BufferBytes = 16 << 10
	c := smallCircles()
	c.Count, c.RowsPerShard = 400, 150
	d := openTest(t, writeCircles(t, c), o)
	if len(d.pieces) < 8 {
		t.Fatalf("%d pieces: the case does not test what it should", len(d.pieces))
	}
	loads, held, most := 0, map[int]int64{}, int64(0)
	load := d.cache.load
	d.cache.load = func(index int) []rawRow {
		rows := load(index)
		d.cache.mu.Lock()
		defer d.cache.mu.Unlock()
		loads++
		var size int64
		for _, r := range rows {
			size += int64(len(r.image.bytes) + len(r.condition.bytes) + len(r.captions[0]))
		}
		held[index] = size
		var total int64
		for i := range d.cache.entries {
			total += held[i]
		}
		most = max(most, total)
		return rows
	}
	const epochs = 3
	take(t, d, 0, epochs*d.StepsPerEpoch())
	if allowed := o.BufferBytes * 5 / 4; most > allowed { // sizes of pieces are estimates
		t.Errorf("%d bytes held, want about %d", most, o.BufferBytes)
	}
	if allowed := (epochs + 1) * len(d.pieces); loads > allowed {
		t.Errorf("%d pieces were read %d times in %d epochs", len(d.pieces), loads, epochs)
	}
}

func TestSizesAreFitted(t *testing.T) {
	o := testOptions()
	o.Resolution, o.NeedConditioning = 24, false
	c := smallCircles()
	d := openTest(t, writeCircles(t, c), o)
	b := take(t, d, 0, 1)[0]
	if b.Conditioning != nil {
		t.Error("conditioning was read though it is not needed")
	}
	want, err := imaging.Fit(c.Example(int(b.Rows[0])).Image(), 24, imaging.Bilinear)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Pixels[:24*24*3]; !slices.Equal(got, imaging.AppendPixels(nil, want)) {
		t.Error("pixels are not Fit's")
	}
}

// Images and conditioning images are resized by the filter that was asked for, masks always by the bilinear one.
func TestInterpolation(t *testing.T) {
	c, side := smallCircles(), 24
	dir := writeCircles(t, c)
	for _, filter := range []imaging.Filter{"", imaging.Bilinear, imaging.Bicubic, imaging.Lanczos} {
		o := testOptions()
		o.Resolution, o.Interpolation, o.MaskColumn = side, filter, o.ConditioningImageColumn
		d := openTest(t, dir, o)
		b := take(t, d, 0, 1)[0]
		e := c.Example(int(b.Rows[0]))
		fit := func(m *imaging.RGB, filter imaging.Filter) *imaging.RGB {
			fitted, err := imaging.Fit(m, side, cmp.Or(filter, imaging.Bilinear))
			if err != nil {
				t.Fatal(err)
			}
			return fitted
		}
		image := fit(e.Image(), filter)
		if got, want := b.Pixels[:side*side*3], imaging.AppendPixels(nil, image); !slices.Equal(got, want) {
			t.Errorf("%q: pixels are not those of the filter", filter)
		}
		if got, err := d.Fit(e.Image()); err != nil || !slices.Equal(got.Pix, image.Pix) {
			t.Errorf("%q: Fit does not give the batches' pixels (%v)", filter, err)
		}
		want := imaging.AppendCondition(nil, fit(e.Condition(), filter))
		if !slices.Equal(b.Conditioning[:side*side*3], want) {
			t.Errorf("%q: the conditioning image is not that of the filter", filter)
		}
		want = imaging.AppendGray(nil, fit(e.Condition(), imaging.Bilinear))
		if !slices.Equal(b.Masks[:side*side], want) {
			t.Errorf("%q: the mask is not that of the bilinear filter", filter)
		}
	}
}

// MaxTrainSamples takes the first rows, wherever a file or a row group ends, and no row of those held out.
func TestMaxTrainSamples(t *testing.T) {
	one, two := writeCircles(t, smallCircles()), writeCircles(t, smallCircles())
	o := testOptions()
	all := openTest(t, one, o).Len()
	for samples, want := range map[int]int{
		0: 2 * all, 1: 1, all - 1: all - 1, all: all, all + 3: all + 3, 5 * all: 2 * all,
	} {
		o.MaxTrainSamples = samples
		d, err := Open([]string{one, two}, o)
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for i := range d.Len() {
			if _, err := d.Row(i); err != nil {
				t.Error(err)
			}
			rows++
		}
		if _, err := d.Row(d.Len()); err == nil || rows != want {
			t.Errorf("%d samples: got %d rows (and another: %v), want %d", samples, rows, err, want)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	o.MaxTrainSamples, o.HeldOut = 1, true
	if got := openTest(t, one, o).Len(); got != all {
		t.Errorf("got %d held-out rows, want %d", got, all)
	}
	o.MaxTrainSamples = -1
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "max_train_samples -1") {
		t.Errorf("got %v", err)
	}
}

func TestMissingColumns(t *testing.T) {
	dir := writeCircles(t, smallCircles())
	lists := writeRows(t, []struct {
		Image string   `parquet:"image"`
		Text  []string `parquet:"text"`
		Sizes []int32  `parquet:"sizes"`
		Side  int32    `parquet:"side"`
	}{{Image: "x"}})
	for name, tc := range map[string]struct {
		path string
		set  func(*Options)
		want string
	}{
		"image":        {dir, func(o *Options) { o.ImageColumn = "target" }, `train-00000-of-00003.parquet has no column "target"; it has image (struct<bytes, path>), conditioning_image (struct<bytes, path>), text (string): name the right one with image_column`},
		"conditioning": {dir, func(o *Options) { o.ConditioningImageColumn = "source" }, `no column "source"`},
		"caption":      {dir, func(o *Options) { o.CaptionColumn = "prompt" }, `no column "prompt"`},
		"not text": {
			dir, func(o *Options) { o.CaptionColumn = "image" },
			"column image is not text or a list of texts but struct<bytes, path>",
		},
		"list": {
			lists, func(o *Options) { o.NeedConditioning, o.CaptionColumn = false, "sizes" },
			"column sizes is not text or a list of texts but list of int",
		},
		"not image": {
			lists, func(o *Options) { o.ImageColumn = "side" },
			"column side is not an image (struct<bytes: binary, path: string>, binary, or strings that are paths) " +
				"but int",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions()
			tc.set(&o)
			if _, err := Open([]string{tc.path}, o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestConditioningColumnMayBeAbsent(t *testing.T) {
	image, err := imaging.EncodePNG(imaging.NewRGB(32, 32))
	if err != nil {
		t.Fatal(err)
	}
	path := writeRows(t, []struct { // images as plain bytes
		Image []byte `parquet:"image"`
		Text  string `parquet:"text"`
	}{{image, "a"}, {image, "b"}})
	o := testOptions()
	o.NeedConditioning, o.BatchSize = false, 2
	b := take(t, openTest(t, path, o), 0, 1)[0]
	slices.Sort(b.Captions)
	if !slices.Equal(b.Captions, []string{"a", "b"}) {
		t.Errorf("captions %q", b.Captions)
	}
}

// pairRow is a row of a file as others write it, with cells of images that have no path.
type pairRow struct {
	Image             cell   `parquet:"image,optional"`
	ConditioningImage cell   `parquet:"conditioning_image,optional"`
	Text              string `parquet:"text"`
}

type cell struct {
	Bytes []byte `parquet:"bytes,optional"`
}

// badRows are usable at the given indices only.
func badRows(t *testing.T, n int, good ...int) []pairRow {
	rows := make([]pairRow, n)
	for i := range rows {
		row, err := smallCircles().Example(i).Row(i, &imaging.PNGEncoder{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(good, i) {
			row.Image.Bytes = []byte("no image")
		}
		rows[i] = pairRow{cell{row.Image.Bytes}, cell{row.ConditioningImage.Bytes}, row.Text}
	}
	return rows
}

func TestBadRowsAreReplacedAndNamed(t *testing.T) {
	path := writeRows(t, badRows(t, 20, 0, 4, 5, 11, 12, 13, 19), parquet.MaxRowsPerRowGroup(6))
	for _, buffer := range []int64{1 << 20, 4 << 10} {
		o := testOptions()
		o.BatchSize, o.BufferBytes = 4, buffer
		d := openTest(t, path, o)
		batches := take(t, d, 0, 10)
		for _, b := range batches {
			for i, row := range b.Rows {
				if want := smallCircles().Example(int(row)).Caption(); b.Captions[i] != want ||
					!slices.Contains([]int64{0, 4, 5, 11, 12, 13, 19}, row) {
					t.Errorf("batch %d has row %d, %q", b.Index, row, b.Captions[i])
				}
			}
		}
		report := d.Report()
		if report.Rows != 20 || len(report.Bad) != 13 {
			t.Fatalf("%d of %d rows reported, want 13 of 20: %v", len(report.Bad), report.Rows, report.Bad)
		}
		if got, want := report.Bad[0].String(),
			"rows.parquet row 1: image: not an image: want PNG, JPEG, GIF, WebP, BMP or TIFF bytes"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		o.Workers = 5
		sameBatches(t, "resumed among bad rows", batches[3:], take(t, openTest(t, path, o), 3, 7))
	}
}

// Map keeps the rows' order, gives each of them once, has several of them made at once, and leaves nothing running when
// the loop ends early.
func TestMap(t *testing.T) {
	good := []int{0, 4, 5, 11, 12, 13, 19}
	path := writeRows(t, badRows(t, 20, good...), parquet.MaxRowsPerRowGroup(6))
	for _, tc := range []struct{ workers, batch, prefetch, stop int }{
		{1, 0, 1, 20}, {3, 4, 2, 20}, {3, 4, 2, 7}, {16, 1, 1, 1},
	} {
		o := testOptions()
		o.Workers, o.BatchSize, o.Prefetch = tc.workers, tc.batch, tc.prefetch
		d := openTest(t, path, o)
		var running, most atomic.Int64
		next := 0
		for i, caption := range Map(d, func(r Row, err error) string {
			defer running.Add(-1)
			for n, m := running.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond) // others overtake
			if err != nil {
				return err.Error()
			}
			return r.Caption
		}) {
			if i != next {
				t.Fatalf("%+v: row %d, want %d", tc, i, next)
			}
			next++
			want := "not an image"
			if slices.Contains(good, i) {
				want = smallCircles().Example(i).Caption()
			}
			if !strings.Contains(caption, want) {
				t.Errorf("%+v: row %d gives %q, want %q", tc, i, caption, want)
			}
			if next == tc.stop {
				break
			}
		}
		if next != tc.stop || running.Load() != 0 {
			t.Errorf("%+v: %d rows, %d still being made", tc, next, running.Load())
		}
		if m := most.Load(); m > int64(tc.workers) || tc.workers > 1 && tc.stop > 1 && m < 2 {
			t.Errorf("%+v: %d rows were made at once", tc, m)
		}
	}
}

func TestAllRowsBad(t *testing.T) {
	d := openTest(t, writeRows(t, badRows(t, 12)), testOptions())
	b, err := d.Batches(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 2 { // the error stays
		_, err = b.Next()
		if want := "all 12 rows are bad, the first: rows.parquet row 0: image: not an image"; err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Fatalf("error %v, want %q", err, want)
		}
	}
}

func TestBatchesEnd(t *testing.T) {
	d := openTest(t, writeCircles(t, smallCircles()), testOptions())
	ctx, cancel := context.WithCancel(context.Background())
	b, err := d.Batches(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
	b.Close()
	b.Close()
	if _, err := b.Next(); err == nil {
		t.Error("a closed reader yields batches")
	}
}

func TestBatchesReject(t *testing.T) {
	dir := writeCircles(t, smallCircles())
	for want, set := range map[string]func(*Options){
		"batch size 51 is more than the 50 rows": func(o *Options) { o.BatchSize = 51 },
		"batch size 0: want":                     func(o *Options) { o.BatchSize = 0 },
		"resolution 0: want":                     func(o *Options) { o.Resolution = 0 },
	} {
		o := testOptions()
		set(&o)
		if _, err := openTest(t, dir, o).Batches(context.Background(), 0); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := openTest(t, dir, testOptions()).Batches(context.Background(), -1); err == nil {
		t.Error("batch -1 accepted")
	}
}

func BenchmarkReader(b *testing.B) {
	c := circles.Default()
	c.Count = 1024
	o := testOptions()
	o.Resolution, o.BatchSize = c.Size, 16
	d := openTest(b, writeCircles(b, c), o)
	batches, err := d.Batches(context.Background(), 0)
	if err != nil {
		b.Fatal(err)
	}
	defer batches.Close()
	for b.Loop() {
		if _, err := batches.Next(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*o.BatchSize)/b.Elapsed().Seconds(), "images/s")
}

func smallCircles() circles.Set {
	c := circles.Default()
	c.Count, c.Size, c.Seed, c.RowsPerShard = 50, 32, 7, 20
	return c
}

// writeCircles writes a set of three shards and returns its folder.
func writeCircles(t testing.TB, c circles.Set) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "circles")
	if err := circles.Write(context.Background(), c, dir, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}
