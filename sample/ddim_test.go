package sample

import (
	"math"
	"strings"
	"testing"

	"limner/models/noise"
)

func TestDDIMSteps(t *testing.T) {
	c := noise.Default()
	c.StepsOffset, c.SetAlphaToOne = 1, false
	for _, n := range []int{1, 3, 20, 999} {
		steps, err := DDIM{c}.Steps(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(steps) != n || steps[n-1].Timestep != 1 {
			t.Errorf("%d steps: got %d, the last at timestep %g", n, len(steps), steps[n-1].Timestep)
		}
		for i, s := range steps {
			if one := float64(s.Signal)*float64(s.Signal) + float64(s.Sigma)*float64(s.Sigma); math.Abs(one-1) > 1e-6 {
				t.Errorf("step %d of %d: ᾱ + (1-ᾱ) = %g", i, n, one)
			}
			// With n dividing the timesteps, a step begins where the one before it ended.
			if i > 0 && 1000%n == 0 && steps[i-1].NextSignal != s.Signal {
				t.Errorf("step %d of %d begins at √ᾱ %g, the one before ended at %g", i, n, s.Signal, steps[i-1].NextSignal)
			}
		}
	}
	c.SetAlphaToOne = true
	if steps, err := (DDIM{c}).Steps(5); err != nil || steps[4].NextSignal != 1 || steps[4].NextSigma != 0 {
		t.Errorf("set_alpha_to_one: got %v, %v", steps, err)
	}
}

func TestDDIMStepsErrors(t *testing.T) {
	for _, c := range []struct {
		steps, offset int
		want          string
	}{
		{0, 0, "num_inference_steps 0: want 1 to 1000"},
		{1001, 0, "want 1 to 1000"},
		{1000, 1, "use 999"},
		{500, 2, "use 499"},
	} {
		config := noise.Default()
		config.StepsOffset = c.offset
		if _, err := (DDIM{config}).Steps(c.steps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d steps with offset %d: got %v, want %q", c.steps, c.offset, err, c.want)
		}
	}
}

func TestAppendNoise(t *testing.T) {
	a, b := AppendNoise(nil, 7, 4096), AppendNoise(nil, 7, 16)
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
	if other := AppendNoise(nil, 8, 1); other[0] == a[0] {
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
