package sd

import (
	"strings"
	"testing"

	"limner/models/clip"
)

// Layers that an encoder does not have are refused, whichever encoder has the fewest.
func TestCheckClipSkip(t *testing.T) {
	two, three := clip.Config{NumHiddenLayers: 2}, clip.Config{NumHiddenLayers: 3}
	sd, xl := Networks{Text: two}, Networks{Text: three, Text2: &two}
	for _, c := range []struct {
		model Networks
		skip  int
		want  string
	}{
		{sd, 2, ""}, {xl, 1, ""},
		{sd, -1, "clip_skip -1: want 0 to 2"},
		{sd, 3, "clip_skip 3: want 0 to 2, text_encoder has 2 layers"},
		{xl, 2, "clip_skip 2: want 0 to 1, text_encoder_2 has 2 layers, of which SDXL leaves out one more"},
		{xl, 3, "clip_skip 3: want 0 to 2, text_encoder has 3 layers, of which SDXL leaves out one more"},
	} {
		err := c.model.CheckClipSkip(c.skip)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("clip skip %d: got %v, want %q", c.skip, err, c.want)
		}
	}
}
