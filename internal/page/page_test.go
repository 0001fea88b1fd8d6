package page

import (
	"encoding/base64"
	"strings"
	"testing"

	"limner/data/imaging"
)

// A picture that is too wide is reduced in its proportions; others stay.
func TestPicture(t *testing.T) {
	for _, c := range []struct{ width, height, wantWidth, wantHeight int }{
		{64, 48, 64, 48}, {400, 300, 100, 75}, {4000, 3, 100, 1}, {1, 500, 1, 500},
	} {
		url, err := Picture(imaging.NewRGB(c.width, c.height), 100)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(url), "data:image/jpeg;base64,"))
		if err != nil {
			t.Fatal(err)
		}
		width, height, err := imaging.Size(raw)
		if err != nil || width != c.wantWidth || height != c.wantHeight {
			t.Errorf("%d×%d: got %d×%d (%v), want %d×%d",
				c.width, c.height, width, height, err, c.wantWidth, c.wantHeight)
		}
	}
	if !strings.Contains(string(Style()), "prefers-color-scheme: dark") {
		t.Error("the style has no dark colours")
	}
}
