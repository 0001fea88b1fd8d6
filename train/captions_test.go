package train

import (
	"slices"
	"strings"
	"testing"

	"limner/data"
	"limner/train/loss"
)

func TestCaptions(t *testing.T) {
	tokens := []loss.Token{{Text: "<x>"}, {Text: "<y>"}}
	batch := &data.Batch{Epoch: 1, Rows: []int64{4, 9, 2, 7}, Captions: []string{"a cat", "{} on a mat", "one <y>", ""}}
	for name, c := range map[string]struct {
		recipe Recipe
		want   []string
	}{
		"a column": {Recipe{}, batch.Captions},
		"one for all": {
			Recipe{DreamBooth: DreamBooth{InstancePrompt: "sks"}}, []string{"sks", "sks", "sks", "sks"},
		},
		"and for the class": {
			Recipe{DreamBooth: DreamBooth{InstancePrompt: "sks", Prior: &Prior{Prompt: "dog"}}},
			[]string{"sks", "sks", "dog", "dog"},
		},
		"tokens in a column": {
			Recipe{Inversion: Inversion{Property: PropertyCaption, Tokens: tokens}},
			[]string{"a cat, <x> <y>", "<x> <y> on a mat", "one <y>", "<x> <y>"},
		},
	} {
		caption := c.recipe.caption(Options{})
		for i, want := range c.want {
			if got := caption(batch, i); got != want {
				t.Errorf("%s: row %d has %q, want %q", name, i, got, want)
			}
		}
	}
}

// Captions around tokens are chosen by the seed, the epoch and the row, wherever in a batch that stands.
func TestTemplates(t *testing.T) {
	draw := func(seed uint64, epoch int, rows ...int64) []string {
		caption := Recipe{
			Inversion: Inversion{Property: PropertyStyle, Tokens: []loss.Token{{Text: "<x>"}}},
		}.caption(Options{Seed: seed})
		batch, captions := &data.Batch{Epoch: epoch, Rows: rows}, []string{}
		for i := range rows {
			captions = append(captions, caption(batch, i))
		}
		return captions
	}
	rows := []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	first := draw(1, 0, rows...)
	for i, text := range first {
		if !strings.Contains(text, "<x>") || strings.Contains(text, "{}") {
			t.Errorf("row %d has %q", i, text)
		}
	}
	if got := draw(1, 0, 7)[0]; got != first[7] {
		t.Errorf("row 7 alone has %q, want %q", got, first[7])
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(first))); len(distinct) < 4 {
		t.Errorf("ten rows have %q only", distinct)
	}
	if slices.Equal(first, draw(2, 0, rows...)) || slices.Equal(first, draw(1, 1, rows...)) {
		t.Error("another seed or epoch changes nothing")
	}
}
