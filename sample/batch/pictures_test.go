package batch

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/controlnet/condition"
	"limner/data/imaging"
)

// What a ControlNet is given of a control image, by --preprocess.
func TestConditionsOfPictures(t *testing.T) {
	dir := t.TempDir()
	const w, h = 24, 16
	photo, mask := imaging.NewRGB(w, h), imaging.NewRGB(w, h)
	for i := range photo.Pix {
		photo.Pix[i] = uint8(i)
	}
	for i := range 3 * w * 4 { // its upper quarter
		mask.Pix[i] = 255
	}
	name := func(file string) string { return filepath.Join(dir, file) }
	for file, m := range map[string]*imaging.RGB{"photo.png": photo, "mask.png": mask} {
		if err := imaging.WritePNG(name(file), m); err != nil {
			t.Fatal(err)
		}
	}
	pose := `{"people": [{"pose_keypoints_2d": [24, 16, 1` + strings.Repeat(",0", 51) + `]}], ` +
		`"canvas_width": 48, "canvas_height": 32}`
	for file, text := range map[string]string{
		"pose.json": pose, "bare.json": `{"people": []}`, "none.json": "[]",
	} {
		if err := os.WriteFile(name(file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hidden := func(m *imaging.RGB, is func(i int) bool) []float32 {
		all := make([]bool, w*h)
		for i := range all {
			all[i] = is(i)
		}
		return condition.AppendFloats(nil, m, all)
	}
	drawn, err := condition.Parse("inpaint(shapes=boxes)")
	if err != nil {
		t.Fatal(err)
	}
	boxes := drawn.Draw(5, 0, 0)
	for _, c := range []struct {
		preprocess, file, mask string
		want                   []float32
	}{
		{"none", "photo.png", "", imaging.AppendCondition(nil, photo)},
		{"canny(low=0, high=1)", "photo.png", "",
			imaging.AppendCondition(nil, condition.Canny(photo, 0, 1, false))},
		{"inpaint", "photo.png", "mask.png", hidden(photo, func(i int) bool { return i < 4*w })},
		{boxes.String(), "photo.png", "",
			hidden(photo, func(i int) bool { return boxes.Hidden(w, h)[i] })},
		{"pose", "pose.json", "", nil},
	} {
		j := &job{Settings: Settings{Preprocess: c.preprocess, ControlImage: []string{name(c.file)}, Seed: 5}}
		j.Width, j.Height = w, h
		if c.mask != "" {
			j.Image, j.Mask = []string{name("photo.png")}, []string{name(c.mask)}
		}
		p, err := lookAt([]*job{j}, "", io.Discard)
		if err != nil {
			t.Fatalf("%s: %v", c.preprocess, err)
		}
		p.next()
		m, is, err := p.condition(name(c.file), j)
		if err != nil {
			t.Fatalf("%s: %v", c.preprocess, err)
		}
		got := condition.AppendFloats(nil, m, is)
		if c.want == nil { // the nose, in the middle
			middle := 3 * (h/2*w + w/2)
			if got[middle] != 1 || got[middle+1] != 0 || got[0] != 0 {
				t.Errorf("%s: %v in the middle, %v at the corner", c.preprocess, got[middle:middle+3], got[:3])
			}
			continue
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: other pixels than wanted", c.preprocess)
		}
	}
	for file, want := range map[string]string{
		"bare.json": "no canvas_width and canvas_height", "none.json": "got a list, want an object",
		"photo.png": "keypoints", "absent.json": "absent.json",
	} {
		j := &job{Settings: Settings{Preprocess: "pose", ControlImage: []string{name(file)}}}
		if _, err := lookAt([]*job{j}, "", io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}
