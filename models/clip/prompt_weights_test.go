package clip

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestApplyWeights(t *testing.T) {
	z := []float32{1, 2, 3, 4, 5, 6} // three tokens of width 2, mean 3.5
	empty := []float32{0, 1, 1, 1, 10, 20}
	for _, c := range []struct {
		name    string
		style   Style
		weights []float32
		want    []float32
	}{
		{"plain", Plain, []float32{1, 1, 1}, z},
		{"a1111 of 1", A1111, []float32{1, 1, 1}, z},
		{"comfy of 1", Comfy, []float32{1, 1, 1}, z},
		// [1 2 6 8 5 6] sums to 28 and z to 21, so all times 3/4.
		{"a1111", A1111, []float32{1, 2, 1}, []float32{0.75, 1.5, 4.5, 6, 3.75, 4.5}},
		// [1 2 0 0 -5 -6] sums to -8: all times -21/8.
		{"a1111 negative", A1111, []float32{1, 0, -1}, []float32{-2.625, -5.25, 0, 0, 13.125, 15.75}},
		// 1 + 2·(3-1), 1 + 2·(4-1); 10 + (5-10)/2, 20 + (6-20)/2.
		{"comfy", Comfy, []float32{1, 2, 0.5}, []float32{1, 2, 5, 7, 7.5, 13}},
		{"comfy of 0", Comfy, []float32{0, 1, -1}, []float32{0, 1, 3, 4, 15, 34}},
	} {
		got := slices.Clone(z)
		if err := ApplyWeights(c.style, got, empty, c.weights, 2); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for i := range got {
			if math.Abs(float64(got[i]-c.want[i])) > 1e-6 {
				t.Errorf("%s: got %v, want %v", c.name, got, c.want)
				break
			}
		}
	}
}

func TestApplyWeightsRejects(t *testing.T) {
	for _, c := range []struct {
		style             Style
		z, empty, weights []float32
		width             int
		want              string
	}{
		{A1111, []float32{1, 2, 3}, nil, []float32{1, 2}, 2, "3 values for 2 tokens of width 2"},
		{A1111, nil, nil, nil, 0, "width 0"},
		{A1111, []float32{1, 2}, nil, []float32{1, -.5}, 1, "nothing restores it"},
		{Comfy, []float32{1, 2}, []float32{1}, []float32{1, 2}, 1, "1 values of the empty prompt, want 2"},
		{Plain, []float32{1, 2}, nil, []float32{1, 2}, 1, `style "plain" has no weights`},
		{"x", []float32{1, 2}, nil, []float32{1, 2}, 1, `style "x"`},
	} {
		before := slices.Clone(c.z)
		err := ApplyWeights(c.style, c.z, c.empty, c.weights, c.width)
		if err == nil || !strings.Contains(err.Error(), c.want) || !slices.Equal(before, c.z) {
			t.Errorf("%s: got %v, want %q; values %v", c.style, err, c.want, c.z)
		}
	}
}
