package watch

import (
	"fmt"
	"strings"

	"limner/controlnet/condition"
	"limner/data/imaging"
)

// Fidelity says how much of a condition pictures follow, once the condition is taken from them again.
type Fidelity struct {
	Measure string  `json:"measure"` // byF1 of lines, byCorrelation of all else
	Score   float64 `json:"score"`   // by that measure: 1 where all is followed, about 0 where nothing is
	// Of lines, the share of the pictures' that the condition has, and of the condition's that the pictures have: F1 is
	// their harmonic mean.
	Precision float64 `json:"precision,omitempty"`
	Recall    float64 `json:"recall,omitempty"`
}

// The measures of fidelity.
const (
	byF1          = "F1"
	byCorrelation = "correlation" // Pearson's, of the pixels
)

// fidelityTolerance is how far lines may be apart, as a share of the pictures' width: 2 pixels of 512.
const fidelityTolerance = 2.0 / 512

// fidelity is the mean over pictures, each beside its condition image of the same size.
func fidelity(c condition.Condition, references, pictures []*imaging.RGB) (Fidelity, error) {
	f := Fidelity{Measure: byCorrelation}
	if c.Kind().Lines {
		f.Measure = byF1
	}
	n := float64(len(pictures))
	for i, m := range pictures {
		again, err := c.Apply(m)
		if err != nil {
			return f, err
		}
		if f.Measure == byCorrelation {
			f.Score += condition.Correlation(references[i], again) / n
			continue
		}
		tolerance := max(1, int(fidelityTolerance*float64(m.Width)+0.5))
		precision, recall := condition.Agreement(references[i], again, tolerance)
		f.Precision += precision / n
		f.Recall += recall / n
	}
	if sum := f.Precision + f.Recall; sum > 0 {
		f.Score = 2 * f.Precision * f.Recall / sum
	}
	return f, nil
}

// String says it in words.
func (f Fidelity) String() string {
	text := fmt.Sprintf("%s %.2f", f.Measure, f.Score)
	if f.Measure == byF1 {
		text += fmt.Sprintf(", precision %.2f, recall %.2f", f.Precision, f.Recall)
	}
	return text
}

// key is the measure's name in metrics.
func (f Fidelity) key() string { return strings.ToLower(f.Measure) }
