package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"limner/controlnet/condition"
	"limner/data"
	"limner/data/imaging"
	"limner/internal/settings"
)

// photo is a picture of soft waves of random colours, directions and lengths: no two look alike.
func photo(seed uint64, width, height int) *imaging.RGB {
	rng := rand.New(rand.NewPCG(seed, 7))
	m := imaging.NewRGB(width, height)
	type wave struct{ x, y, phase, r, g, b float64 }
	var waves []wave
	for range 6 {
		waves = append(waves, wave{
			rng.Float64()*12 - 6, rng.Float64()*12 - 6, rng.Float64() * 6,
			rng.Float64() * 40, rng.Float64() * 40, rng.Float64() * 40,
		})
	}
	for y := range height {
		for x := range width {
			c := [3]float64{128, 128, 128}
			for _, w := range waves {
				v := math.Sin(w.x*float64(x)/float64(width) + w.y*float64(y)/float64(height) + w.phase)
				c[0], c[1], c[2] = c[0]+v*w.r, c[1]+v*w.g, c[2]+v*w.b
			}
			for k := range c {
				m.Pix[(y*width+x)*3+k] = uint8(min(max(c[k], 0), 255))
			}
		}
	}
	return m
}

func encodedPNG(t testing.TB, m *imaging.RGB) []byte {
	t.Helper()
	raw, err := imaging.EncodePNG(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func encodedJPEG(t testing.TB, m *imaging.RGB, quality int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m.NRGBA(), &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pictures writes a folder of files and a metadata.jsonl of the given lines.
func pictures(t testing.TB, files map[string][]byte, lines ...map[string]any) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "photos")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var metadata bytes.Buffer
	encoder := json.NewEncoder(&metadata)
	for _, line := range lines {
		if err := encoder.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	files = maps.Clone(files)
	files["metadata.jsonl"] = metadata.Bytes()
	for name, raw := range files {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// album is a folder of count pictures of several sizes, with captions.
func album(t testing.TB, count int) string {
	t.Helper()
	files, lines := map[string][]byte{}, []map[string]any(nil)
	for i := range count {
		name := fmt.Sprintf("%03d.png", i)
		files[name] = encodedPNG(t, photo(uint64(i), 40+i%3*8, 40+i%5*4))
		lines = append(lines, map[string]any{"file_name": name, "text": fmt.Sprintf("picture %d", i)})
	}
	return pictures(t, files, lines...)
}

// job makes pictures of 32×32 pixels of a folder.
func job(t testing.TB, in string) Job {
	t.Helper()
	reading := data.DefaultOptions()
	reading.NeedConditioning = false
	s := settings.Default[Settings]()
	s.Resolution = 32
	return Job{
		In: []string{in}, Out: filepath.Join(t.TempDir(), "set"), Reading: reading, Settings: s, Program: "limner test",
	}
}

func run(t testing.TB, j Job) Summary {
	t.Helper()
	s, err := j.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// content reads all files below a folder.
func content(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// rowsOf reads a dataset that was made.
func rowsOf(t testing.TB, dir string, o data.Options) []data.Row {
	t.Helper()
	d, err := data.Open([]string{dir}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rows := make([]data.Row, d.Len())
	for i := range rows {
		if rows[i], err = d.Row(i); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// leftOut lists the rows that were left out and why.
func leftOut(t testing.TB, dir string) (list []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, recordFolder, leftOutName))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var row leftRow
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%d %s", row.Row, row.Reason))
	}
	return list
}

func TestBuildReadsBack(t *testing.T) {
	in := album(t, 20)
	j := job(t, in)
	j.ShardBytes, j.ValidationCount, j.Condition, j.Duplicates = 8000, 3, "canny(low=rand(10, 40))", dropNone
	s := run(t, j)
	if len(s.Splits) != 2 || s.Splits[0].Rows != 17 || s.Splits[1].Rows != 3 || s.Splits[0].Files < 3 || s.Rows != 20 {
		t.Fatalf("summary %+v", s)
	}
	names := slices.Sorted(maps.Keys(content(t, j.Out)))
	for i := range s.Splits[0].Files {
		if want := fmt.Sprintf("data/train-%05d-of-%05d.parquet", i, s.Splits[0].Files); !slices.Contains(names, want) {
			t.Errorf("%s is missing in %v", want, names)
		}
	}
	if _, err := os.Stat(workDir(j.Out)); err == nil {
		t.Error("the work folder is left behind")
	}
	o := data.DefaultOptions()
	o.Extra = []string{columnCondition}
	train := rowsOf(t, j.Out, o)
	o.HeldOut = true
	held := rowsOf(t, j.Out, o)
	source := rowsOf(t, in, j.Reading)
	spec, err := condition.Parse(j.Condition)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range slices.Concat(train, held) {
		i := slices.IndexFunc(source, func(s data.Row) bool { return s.Caption == r.Caption })
		if i < 0 || seen[r.Caption] {
			t.Fatalf("row %q is not in the source, or twice", r.Caption)
		}
		seen[r.Caption] = true
		want, err := imaging.Fit(source[i].Image, 32, imaging.Bilinear)
		if err != nil {
			t.Fatal(err)
		}
		drawn := spec.Draw(0, int64(i), 0)
		edges, err := drawn.Apply(want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Image.Pix, want.Pix) || !bytes.Equal(r.Conditioning.Pix, edges.Pix) ||
			r.Extra[columnCondition] != drawn.String() {
			t.Errorf("row %q: other pixels, or condition %q, want %q", r.Caption, r.Extra[columnCondition], drawn)
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d rows in all, want 20", len(seen))
	}
	again := job(t, in)
	again.Settings = j.Settings
	run(t, again)
	if diff := cmp.Diff(content(t, j.Out), content(t, again.Out)); diff != "" {
		t.Error("a second build has other bytes")
	}
}

// A build that fails at any moment and is begun again makes the same bytes as one that does not.
func TestBuildGoesOn(t *testing.T) {
	in := album(t, 12)
	files := content(t, in)
	files["011.png"] = files["003.png"]
	for name, raw := range files {
		if err := os.WriteFile(filepath.Join(in, name), []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set := func(j *Job) { j.ShardBytes, j.ValidationCount, j.MinSide = 2500, 2, 41 }
	whole := job(t, in)
	set(&whole)
	run(t, whole)
	want := content(t, whole.Out)

	errStop := errors.New("stopped by the test")
	for moment := 0; ; moment++ {
		j := job(t, in)
		set(&j)
		failed := false
		// The first attempt fails at that moment, and each of the next ones a few moments later.
		for attempt := 0; ; attempt++ {
			left := moment
			if attempt > 0 {
				left = 2
			}
			j.failures = func(string) error {
				if left--; left < 0 {
					return errStop
				}
				return nil
			}
			if attempt > 3 {
				j.failures = nil
			}
			_, err := j.Run(context.Background())
			if err == nil {
				break
			}
			if !errors.Is(err, errStop) {
				t.Fatal(err)
			}
			failed = true
			if _, err := os.Stat(j.Out); err == nil {
				t.Fatalf("moment %d: the folder is there before it is complete", moment)
			}
		}
		if diff := cmp.Diff(want, content(t, j.Out)); diff != "" {
			t.Fatalf("stopped at moment %d: other bytes", moment)
		}
		if !failed {
			if moment < 8 {
				t.Errorf("only %d moments", moment)
			}
			break
		}
	}
}

func TestBuildStops(t *testing.T) {
	j := job(t, album(t, 12))
	j.ShardBytes = 3000
	ctx, cancel := context.WithCancel(context.Background())
	j.Progress = func(p Progress) {
		if p.Done == 8 {
			cancel()
		}
	}
	_, err := j.Run(ctx)
	if !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), "the same command goes on") {
		t.Errorf("got %v", err)
	}
	first := 0
	j.Progress = func(p Progress) {
		if first == 0 {
			first = p.Done
		}
	}
	if s := run(t, j); s.Rows != 12 || first < 4 {
		t.Errorf("went on with row %d, %+v", first, s)
	}
}

func TestBuildLeavesOut(t *testing.T) {
	small, oblong, blurred := photo(100, 20, 20), photo(101, 200, 40), photo(102, 64, 64)
	blank := imaging.NewRGB(64, 64)
	sharp := imaging.NewRGB(64, 64)
	for i := range sharp.Pix {
		sharp.Pix[i] = uint8(i * i % 251)
	}
	files := map[string][]byte{
		"small.png": encodedPNG(t, small), "oblong.png": encodedPNG(t, oblong), "blurred.png": encodedPNG(t, blurred),
		"blank.png": encodedPNG(t, blank), "sharp.png": encodedPNG(t, sharp), "broken.png": []byte("no picture"),
	}
	var lines []map[string]any
	for i, name := range []string{"small", "oblong", "blurred", "blank", "sharp", "broken"} {
		lines = append(lines, map[string]any{
			"file_name": name + ".png", "text": name, "aesthetic": float64(i), "source": "camera",
		})
	}
	in := pictures(t, files, lines...)
	for name, c := range map[string]struct {
		set  func(s *Settings)
		want []string
	}{
		"none":   {func(*Settings) {}, nil},
		"side":   {func(s *Settings) { s.MinSide = 32 }, []string{"0 too small"}},
		"aspect": {func(s *Settings) { s.MaxAspect = 2 }, []string{"1 too oblong"}},
		"sharpness": {
			func(s *Settings) { s.MinSharpness = 1000 }, []string{"0 blurred", "1 blurred", "2 blurred", "3 blurred"},
		},
		"variation": {func(s *Settings) { s.MinVariation = 0.01 }, []string{"3 blank"}},
		"min score": {
			func(s *Settings) { s.MinScore = map[string]float64{"aesthetic": 2} }, []string{"0 score", "1 score"},
		},
		"max score": {func(s *Settings) { s.MaxScore = map[string]float64{"aesthetic": 3} }, []string{"4 score"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := job(t, in)
			c.set(&j.Settings)
			s := run(t, j)
			want := append(slices.Clone(c.want), "5 unreadable")
			if diff := cmp.Diff(want, leftOut(t, j.Out)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if kept := s.Splits[0].Rows; kept != len(lines)-len(want) {
				t.Errorf("%d rows are kept", kept)
			}
		})
	}
	j := job(t, in)
	j.MinScore = map[string]float64{"beauty": 2}
	if _, err := j.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "beauty") {
		t.Errorf("a column that is not there: %v", err)
	}
	j = job(t, in)
	j.MaxBadRows = 0
	if _, err := j.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "not an image") {
		t.Errorf("more rows that cannot be read than are allowed: %v", err)
	}
}

func TestBuildDuplicates(t *testing.T) {
	first, other := photo(1, 96, 96), photo(2, 96, 96)
	smaller, err := imaging.Resize(first, 64, 64, imaging.Bilinear)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"0.png": encodedPNG(t, first), "1.png": encodedPNG(t, other), "2.png": encodedPNG(t, first),
		"3.jpg": encodedJPEG(t, first, 60), "4.jpg": encodedJPEG(t, smaller, 80),
		"5.png": encodedPNG(t, photo(3, 96, 96)), "6.png": encodedPNG(t, imaging.Mirror(first)),
	}
	var lines []map[string]any
	for _, name := range slices.Sorted(maps.Keys(files)) {
		lines = append(lines, map[string]any{"file_name": name, "text": name})
	}
	in := pictures(t, files, lines...)
	for drop, want := range map[string][]string{
		dropNear:  {"2 duplicate", "3 near duplicate", "4 near duplicate"},
		dropExact: {"2 duplicate"},
		dropNone:  nil,
	} {
		j := job(t, in)
		j.Duplicates = drop
		run(t, j)
		if diff := cmp.Diff(want, leftOut(t, j.Out)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", drop, diff)
		}
		// Whatever is drawn for validation, train has nothing like it.
		likes := []string{"0.png", "2.png", "3.jpg", "4.jpg"}
		for seed := range uint64(6) {
			j := job(t, in)
			j.Duplicates, j.ValidationCount, j.Seed = drop, 2, seed
			run(t, j)
			count := func(heldOut bool) (n int) {
				o := j.Reading
				o.HeldOut = heldOut
				for _, r := range rowsOf(t, j.Out, o) {
					if slices.Contains(likes, r.Caption) {
						n++
					}
				}
				return n
			}
			if train, held := count(false), count(true); train > 0 && held > 0 {
				t.Errorf("%s, seed %d: %d likes in train, %d in validation", drop, seed, train, held)
			}
		}
	}
}

// The same image with other conditioning images is another row, unless those are alike.
func TestBuildPairs(t *testing.T) {
	image := encodedPNG(t, photo(1, 64, 48))
	one, two := encodedPNG(t, photo(2, 64, 48)), encodedPNG(t, photo(3, 64, 48))
	files := map[string][]byte{"a.png": image, "1.png": one, "2.png": two, "3.png": encodedPNG(t, photo(4, 64, 64))}
	line := func(condition, mask string) map[string]any {
		return map[string]any{"file_name": "a.png", "text": "a", "conditioning_image": condition, "mask": mask}
	}
	in := pictures(t, files,
		line("1.png", "1.png"), line("2.png", "1.png"), line("1.png", "1.png"), line("1.png", "2.png"),
		line("3.png", "1.png"))
	j := job(t, in)
	j.Reading.MaskColumn = "mask"
	run(t, j)
	j.Reading.NeedConditioning = true
	if diff := cmp.Diff([]string{"2 duplicate", "4 shapes differ"}, leftOut(t, j.Out)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	rows := rowsOf(t, j.Out, j.Reading)
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	want, err := imaging.Fit(photo(3, 64, 48), 32, imaging.Bilinear)
	if err != nil || !bytes.Equal(rows[1].Conditioning.Pix, want.Pix) || !bytes.Equal(rows[2].Mask.Pix, want.Pix) {
		t.Errorf("conditioning image and mask are others (%v)", err)
	}
}

// Conditioning images are kept in layouts that have other names for them, and depth keeps its 16 bits where its size
// stays.
func TestBuildKeepsConditions(t *testing.T) {
	depth := image.NewGray16(image.Rect(0, 0, 32, 32))
	for i := range depth.Pix {
		depth.Pix[i] = uint8(i * 7)
	}
	var raw bytes.Buffer
	if err := png.Encode(&raw, depth); err != nil {
		t.Fatal(err)
	}
	in := t.TempDir()
	for name, content := range map[string][]byte{
		"target.png": encodedPNG(t, photo(1, 32, 32)), "source.png": raw.Bytes(),
		"prompt.json": []byte(`{"source": "source.png", "target": "target.png", "prompt": "waves"}` + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(in, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, resolution := range []int{0, 16} {
		j := job(t, in)
		j.Resolution = resolution
		run(t, j)
		o := j.Reading
		o.NeedConditioning = true
		got := rowsOf(t, j.Out, o)[0].Encoded.Conditioning
		if same := bytes.Equal(got, raw.Bytes()); same != (resolution == 0) {
			t.Errorf("at resolution %d the conditioning image is the file that was read: %v", resolution, same)
		}
	}
	var log bytes.Buffer
	j := job(t, album(t, 2))
	j.Log = &log
	run(t, j)
	if !strings.Contains(log.String(), "no conditioning images are read: ") {
		t.Errorf("images alone: %s", log.String())
	}
}

// A split validation of the source stays one, and comes first: what train has of it is left out.
func TestBuildKeepsSplits(t *testing.T) {
	in := filepath.Join(t.TempDir(), "album")
	for i := range 8 {
		split := "train"
		if i > 5 {
			split = "validation"
		}
		dir := filepath.Join(in, split)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, fmt.Sprint(i))
		raw := encodedPNG(t, photo(uint64(i%7), 40, 40)) // 7 is 0 again
		err := errors.Join(os.WriteFile(name+".png", raw, 0o644), os.WriteFile(name+".txt", []byte("x"), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	j := job(t, in)
	j.Duplicates = dropNone
	s := run(t, j)
	if len(s.Splits) != 2 || s.Splits[0].Rows != 5 || s.Splits[1].Rows != 2 {
		t.Errorf("splits %+v", s.Splits)
	}
	if diff := cmp.Diff([]string{"0 duplicate of validation"}, leftOut(t, j.Out)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	raw, err := os.ReadFile(filepath.Join(j.Out, recordFolder, leftOutName))
	if err != nil || !strings.Contains(string(raw), `"image":"train/0.png"`) {
		t.Errorf("left out: %s, %v", raw, err)
	}
	drawn := job(t, in)
	drawn.ValidationCount = 1
	if s := run(t, drawn); s.Rows != 6 || s.Splits[1].Rows != 1 {
		t.Errorf("with a drawn row: %+v", s)
	}
}

// Rows in which condition, mask or caption is empty are left out where that is asked for, and pictures that belong
// together may have several sizes as long as they keep theirs.
func TestBuildLeavesOutWhatIsEmpty(t *testing.T) {
	white, black := imaging.NewRGB(64, 48), imaging.NewRGB(64, 48)
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	files := map[string][]byte{
		"edges.png": encodedPNG(t, photo(9, 32, 24)),
		"white.png": encodedPNG(t, white), "black.png": encodedPNG(t, black),
	}
	var lines []map[string]any
	for i, c := range []struct{ condition, mask, text string }{
		{"edges", "white", "a"}, {"black", "white", "b"}, {"edges", "black", "c"}, {"edges", "white", " \t"},
	} {
		name := fmt.Sprintf("%d.png", i)
		files[name] = encodedPNG(t, photo(uint64(i), 64, 48))
		lines = append(lines, map[string]any{
			"file_name": name, "text": c.text, "conditioning_image": c.condition + ".png", "mask": c.mask + ".png",
		})
	}
	in := pictures(t, files, lines...)
	for name, c := range map[string]struct {
		set  func(s *Settings)
		want []string
	}{
		"nothing":    {func(*Settings) {}, nil},
		"conditions": {func(s *Settings) { s.MinConditionVariation = 0.001 }, []string{"1 blank condition"}},
		"masks":      {func(s *Settings) { s.DropBlackMasks = true }, []string{"2 black mask"}},
		"captions":   {func(s *Settings) { s.DropEmptyCaptions = true }, []string{"3 caption"}},
	} {
		j := job(t, in)
		j.Reading.MaskColumn, j.Resolution = "mask", 0
		c.set(&j.Settings)
		run(t, j)
		if diff := cmp.Diff(c.want, leftOut(t, j.Out)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		o := j.Reading
		o.NeedConditioning = true
		if r := rowsOf(t, j.Out, o)[0]; r.Image.Width != 64 || r.Conditioning.Width != 32 {
			t.Errorf("%s: an image of %d pixels and a condition of %d, want 64 and 32",
				name, r.Image.Width, r.Conditioning.Width)
		}
	}
	j := job(t, in)
	j.Condition, j.MinConditionVariation = "canny(low=2000, high=2040)", 0.001
	if _, err := j.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "4 blank condition") {
		t.Errorf("conditions that are taken: %v", err)
	}
}

func TestBuildCaptionsAndColumns(t *testing.T) {
	files := map[string][]byte{"a.png": encodedPNG(t, photo(1, 40, 40)), "b.png": encodedPNG(t, photo(2, 40, 40))}
	in := pictures(t, files,
		map[string]any{"file_name": "a.png", "text": []string{"one", "two"}, "breed": "cat", "license": "CC0"},
		map[string]any{"file_name": "b.png", "text": "sks three", "license": "CC-BY"})
	for name, c := range map[string]struct {
		set      func(s *Settings)
		captions [][]string
		left     []string
	}{
		"as they are": {func(*Settings) {}, [][]string{{"one", "two"}, {"sks three"}}, nil},
		"trigger word": {
			func(s *Settings) { s.TriggerWord, s.CaptionPrefix = "sks", "photo: " },
			[][]string{{"sks, photo: one", "sks, photo: two"}, {"photo: sks three"}}, nil,
		},
		"template": {
			func(s *Settings) { s.Caption = "a {breed}" },
			[][]string{{"a cat"}}, []string{"1 caption"},
		},
		"template with the caption": {
			func(s *Settings) { s.Caption = "{text}, {{{license}}}" },
			[][]string{{"one, {CC0}", "two, {CC0}"}, {"sks three, {CC-BY}"}}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := job(t, in)
			c.set(&j.Settings)
			run(t, j)
			o := j.Reading
			o.Extra = []string{"license"}
			if len(c.captions[0]) > 1 {
				o.CaptionColumn = columnCaptions
			}
			var captions [][]string
			for i, r := range rowsOf(t, j.Out, o) {
				captions = append(captions, r.Captions)
				if want := []string{"CC0", "CC-BY"}[i]; r.Extra["license"] != want {
					t.Errorf("row %d: license %q", i, r.Extra["license"])
				}
			}
			if diff := cmp.Diff(c.captions, captions); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(c.left, leftOut(t, j.Out)); diff != "" {
				t.Errorf("left out: -want +got:\n%s", diff)
			}
		})
	}
}

// A file in which nothing would change is copied; any other is written in the format.
func TestBuildCopies(t *testing.T) {
	exact, larger := photo(1, 32, 32), photo(2, 64, 40)
	files := map[string][]byte{
		"0.png": encodedPNG(t, exact), "1.jpg": encodedJPEG(t, photo(3, 32, 32), 80), "2.png": encodedPNG(t, larger),
	}
	var lines []map[string]any
	for _, name := range slices.Sorted(maps.Keys(files)) {
		lines = append(lines, map[string]any{"file_name": name, "text": name})
	}
	in := pictures(t, files, lines...)
	for _, format := range []string{"png", "jpeg"} {
		j := job(t, in)
		j.Format = format
		if s := run(t, j); s.Copied != 2 {
			t.Errorf("%s: %d files were copied, want 2", format, s.Copied)
		}
		rows := rowsOf(t, j.Out, j.Reading)
		for i, name := range []string{"0.png", "1.jpg"} {
			if !bytes.Equal(rows[i].Encoded.Image, files[name]) {
				t.Errorf("%s: %s was not copied", format, name)
			}
		}
		if got := imaging.Plain(rows[2].Encoded.Image); got != format {
			t.Errorf("%s: the resized picture is %q", format, got)
		}
	}
	j := job(t, in)
	j.Resolution = 0
	if s := run(t, j); s.Copied != 3 {
		t.Errorf("%d files were copied that keep their size, want 3", s.Copied)
	}
}

func TestBuildBuckets(t *testing.T) {
	files := map[string][]byte{
		"0.png": encodedPNG(t, photo(1, 150, 100)), "1.png": encodedPNG(t, photo(2, 100, 300)),
		"2.png": encodedPNG(t, photo(3, 90, 91)),
	}
	var lines []map[string]any
	for _, name := range slices.Sorted(maps.Keys(files)) {
		lines = append(lines, map[string]any{"file_name": name, "text": name})
	}
	j := job(t, pictures(t, files, lines...))
	j.BucketArea = 256
	run(t, j)
	var sizes []string
	for _, r := range rowsOf(t, j.Out, j.Reading) {
		sizes = append(sizes, fmt.Sprintf("%d×%d", r.Image.Width, r.Image.Height))
	}
	if diff := cmp.Diff([]string{"320×192", "128×384", "256×256"}, sizes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	o := j.Reading
	o.Resolution = 64
	if _, err := data.Open([]string{j.Out}, o); err == nil || !strings.Contains(err.Error(), "--resolution 256") {
		t.Errorf("batches of several sizes: %v", err)
	}
	for _, b := range buckets(512) {
		if b.width%64 != 0 || b.height%64 != 0 || b.width*b.height > 512*512 || b.width*b.height < 512*512*7/10 {
			t.Errorf("bucket %v", b)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	in := album(t, 3)
	refused := func(name, want string, j Job) {
		t.Helper()
		_, err := j.Run(context.Background())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	j := job(t, in)
	if err := os.MkdirAll(j.Out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(j.Out, "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("a full folder", "holds something (notes.txt)", j)

	j = job(t, in)
	stop := errors.New("stop")
	j.failures = func(string) error { return stop }
	refused("a failure", "stop", j)
	j.Resolution = 48
	refused("other settings", "with other settings", j)
	j.Resolution = 32
	if err := os.WriteFile(filepath.Join(in, "000.png"), encodedPNG(t, photo(9, 40, 40)), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("other data", "from other data", j)

	j = job(t, in)
	key, err := json.Marshal("another")
	if err != nil {
		t.Fatal(err)
	}
	w, err := openWork(j.Out, key)
	if err != nil {
		t.Fatal(err)
	}
	refused("at the same time", "another build", j)
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}

	j = job(t, in)
	j.MinSide = 1000
	refused("nothing is left", "no row is left for train: 3 too small", j)

	j = job(t, in)
	j.Settings = Settings{
		Resolution: -1, BucketArea: 3, Format: "gif", Condition: "edges", Caption: "a {class", ValidationFraction: 1,
		ValidationCount: -1, MinSide: -1, MaxAspect: 0.5, MinSharpness: math.NaN(), MinVariation: 2, Duplicates: "some",
		MinConditionVariation: -1, MaxBadRows: -1, Keep: []string{"image"},
	}
	_, err = j.Run(context.Background())
	for _, want := range []string{
		"resolution -1", "bucket_area 3", `format "gif"`, `condition "edges"`, "caption: ", "validation_fraction 1",
		"validation_count -1", "min_side -1", "max_aspect 0.5", "min_sharpness NaN", "min_variation 2",
		"min_condition_variation -1",
		`duplicates "some"`, "max_bad_rows -1", "shard_bytes 0", `keep_columns "image"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"a photo of {class}", "{{x}}", "{a}{b}", "}", "{", "{ }", "{a{b}}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		extra := map[string]string{}
		for _, name := range parsed.columns() {
			extra[name] = "x"
		}
		if _, err := parsed.fill("caption", extra); err != nil {
			t.Error(err)
		}
	})
}
