package condition

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/data/imaging"
	"limner/internal/golden"
)

// numbers is a list of n numbers in JSON.
func numbers(n int, each string) string { return strings.TrimSuffix(strings.Repeat(each+",", n), ",") }

func TestParseKeypointsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":   "keypoints: ",
		"[]": "got a list, want an object",
		"{}": `no "people": want OpenPose's JSON`,
		`{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}`: "person 0: pose_keypoints_2d: 3 numbers, want 54",
		`{"people": [{"hand_left_keypoints_2d": [` + numbers(60, "1") + `]}]}`: "" +
			"hand_left_keypoints_2d: 60 numbers, want 63",
		`{"people": [], "canvas_width": 10}`:                       "a canvas of 10×0 pixels",
		`{"people": [], "canvas_width": 1e9, "canvas_height": 10}`: "canvas",
		`{"people": [` + numbers(201, "{}") + `]}`:                 "keypoints of 201 people",
		strings.Repeat(" ", 2<<20):                                 "keypoints of 2097152 bytes",
	} {
		if _, err := ParseKeypoints([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

func TestDrawKeypoints(t *testing.T) {
	s, err := Parse("pose(hands=no)")
	if err != nil {
		t.Fatal(err)
	}
	c := s.Draw(0, 0, 0)
	if _, err := c.Apply(imaging.NewRGB(4, 4)); err == nil || !strings.Contains(err.Error(), "drawn from keypoints") {
		t.Errorf("Apply: %v", err)
	}
	far := fmt.Sprintf(`{"people": [{"pose_keypoints_2d": [1e30, 2, 1, %s]}]}`, numbers(51, "0"))
	k, err := ParseKeypoints([]byte(far))
	if err != nil {
		t.Fatal(err)
	}
	whole := Part{ResizedWidth: 8, ResizedHeight: 8, Width: 8, Height: 8}
	_, err = c.Draw(k, 8, 8, whole)
	if err == nil || !strings.Contains(err.Error(), "far outside of the canvas of 8×8") {
		t.Errorf("a joint far away: %v", err)
	}
}

// What is drawn for a part of an image lies where it lies in the whole.
func TestDrawPart(t *testing.T) {
	raw, err := os.ReadFile(golden.Path(t, "conditions", "pose_full.json"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKeypoints(raw)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse("pose")
	if err != nil {
		t.Fatal(err)
	}
	c, w, h := s.Draw(0, 0, 0), k.Width, k.Height
	whole, err := c.Draw(k, w, h, Part{ResizedWidth: w, ResizedHeight: h, Width: w, Height: h})
	if err != nil {
		t.Fatal(err)
	}
	const left, top, side = 20, 40, 100
	part, err := c.Draw(k, w, h, Part{w, h, left, top, side, side})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "a part", part, imaging.Crop(whole, left, top, side, side), tolerance{255, 0.005, true})
}

func FuzzKeypoints(f *testing.F) {
	files, err := filepath.Glob(golden.Path(f, "conditions", "pose_*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	s, err := Parse("pose")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := ParseKeypoints(raw)
		if err != nil {
			return
		}
		part := Part{ResizedWidth: 96, ResizedHeight: 64, Left: 16, Width: 64, Height: 64}
		m, err := s.Draw(1, 2, 3).Draw(k, 30, 20, part)
		if err == nil && (m.Width != 64 || m.Height != 64) {
			t.Fatalf("%d×%d pixels", m.Width, m.Height)
		}
	})
}
