package watch

import (
	"strings"
	"testing"
)

func TestConvergence(t *testing.T) {
	of := func(f1 ...float64) []Validated {
		var all []Validated
		for i, f := range f1 {
			all = append(all, Validated{Step: 100 * (i + 1), Fidelity: &Fidelity{Measure: byF1, Score: f}},
				Validated{Step: 100*(i+1) + 50})
		}
		return all
	}
	for _, c := range []struct {
		name string
		f1   []float64
		want *Convergence
	}{
		{"nothing yet", nil, nil},
		{"one", []float64{0.3}, nil},
		{"suddenly", []float64{0.1, 0.12, 0.11, 0.6, 0.65}, &Convergence{300, 400, 0.11, 0.6, byF1}},
		{"evenly", []float64{0.1, 0.25, 0.4, 0.55, 0.7}, nil},
		{"hardly", []float64{0.1, 0.2}, nil},
		{"down", []float64{0.7, 0.1}, nil},
	} {
		got := convergence(of(c.f1...))
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestValidationErrors(t *testing.T) {
	for _, c := range []struct {
		want    string
		control bool
		change  func(*Validation)
	}{
		{"", false, func(v *Validation) {}},
		{"validation_target needs validation_prompt", true, func(v *Validation) { v.Targets = []string{"x"} }},
		{
			"validation_target: got 1, want one for each of the 2 prompts or images", true, func(v *Validation) {
				v.Prompts, v.Images, v.Targets = []string{"x"}, []string{"a", "b"}, []string{"c"}
			},
		},
		{"validation_image needs validation_prompt", true, func(v *Validation) { v.Images = []string{"x"} }},
		{"a ControlNet draws with validation_image", true, func(v *Validation) { v.Prompts = []string{"x"} }},
		{
			"only a ControlNet draws with images",
			false, func(v *Validation) { v.Prompts, v.Images = []string{"x"}, []string{"x"} },
		},
		{
			"got 3 images for 2 prompts", true, func(v *Validation) {
				v.Prompts, v.Images = []string{"x", "y"}, []string{"a", "b", "c"}
			},
		},
		{
			`validation_condition: unknown condition "depth", supported: canny, outline`,
			true, func(v *Validation) { v.Prompts, v.Images, v.Condition = []string{"x"}, []string{"a"}, "depth" },
		},
		{
			"pose cannot be taken from images again", true, func(v *Validation) {
				v.Prompts, v.Images, v.Condition = []string{"x"}, []string{"a"}, "pose"
			},
		},
		{
			"is random: name the values", true, func(v *Validation) {
				v.Prompts, v.Images, v.Condition = []string{"x"}, []string{"a"}, "canny(low=rand(1,2))"
			},
		},
		{
			"validation_steps: got 0, want at least 1",
			false, func(v *Validation) { v.Prompts, v.Steps = []string{"x"}, 0 },
		},
		{"validation_rows: got 0, want at least 1", true, func(v *Validation) { v.Data, v.Rows = []string{"x"}, 0 }},
	} {
		v := DefaultValidation()
		c.change(&v)
		if err := v.Validate(c.control); (err == nil) != (c.want == "") ||
			err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
