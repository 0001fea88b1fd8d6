package sample

import (
	"math"
	"testing"
)

func TestAppendNormals(t *testing.T) {
	a, b := appendNormals(nil, 7, purposeLatents, 4096), appendNormals(nil, 7, purposeLatents, 16)
	var sum, squares float64
	for i, v := range a {
		if i < len(b) && b[i] != v {
			t.Fatalf("value %d depends on how many are drawn", i)
		}
		sum, squares = sum+float64(v), squares+float64(v)*float64(v)
	}
	if mean, variance := sum/4096, squares/4096; math.Abs(mean) > 0.05 || math.Abs(variance-1) > 0.08 {
		t.Errorf("mean %g, variance %g", mean, variance)
	}
	if other := appendNormals(nil, 8, purposeLatents, 1); other[0] == a[0] {
		t.Error("another seed gives the same noise")
	}
	// Images must stay what they were from one release to the next.
	want := []float32{0.49815133, -0.32862434, -0.5711418}
	for i, w := range want {
		if a[i] != w {
			t.Errorf("value %d of seed 7: got %v, want %v", i, a[i], w)
		}
	}
}
