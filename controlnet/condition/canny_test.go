package condition

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"limner/internal/golden"
)

func TestGoldenCanny(t *testing.T) {
	files, err := filepath.Glob(golden.Path(t, "images", "canny", "*_L?.png"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		parts := strings.Split(strings.TrimSuffix(filepath.Base(file), ".png"), "_") // image, source, low, high, norm
		var low, high float64
		if _, err := fmt.Sscan(parts[2], &low); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(parts[3], &high); err != nil {
			t.Fatal(err)
		}
		source := golden.Path(t, "images", parts[0]+".png")
		if parts[1] == "gray" {
			source = filepath.Join(filepath.Dir(file), parts[0]+"_gray.png")
		}
		got, want := Canny(readImage(t, source), low, high, parts[4] == "L2"), readImage(t, file)
		if got.Width != want.Width || got.Height != want.Height {
			t.Errorf("%s: %d×%d pixels, want %d×%d",
				filepath.Base(file), got.Width, got.Height, want.Width, want.Height)
		} else if !bytes.Equal(got.Pix, want.Pix) {
			wrong := 0
			for i := range got.Pix {
				if got.Pix[i] != want.Pix[i] {
					wrong++
				}
			}
			t.Errorf("%s: %d of %d values differ", filepath.Base(file), wrong, len(got.Pix))
		}
	}
}
