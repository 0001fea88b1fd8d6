package watch

import (
	"limner/controlnet/condition"
	"limner/data/imaging"
)

// Fidelity says how much of a condition pictures follow.
type Fidelity struct {
	Precision float64 `json:"precision"` // share of the pictures' lines that the condition has
	Recall    float64 `json:"recall"`    // share of the condition's lines that the pictures have
	F1        float64 `json:"f1"`        // the harmonic mean of both
}

// fidelityTolerance is how far lines may be apart, as a share of the pictures' width: 2 pixels of 512.
const fidelityTolerance = 2.0 / 512

// fidelity is the mean over pictures, each beside its condition image of the same size.
func fidelity(c condition.Condition, references, pictures []*imaging.RGB) (Fidelity, error) {
	var f Fidelity
	for i, m := range pictures {
		tolerance := max(1, int(fidelityTolerance*float64(m.Width)+0.5))
		again, err := c.Apply(m)
		if err != nil {
			return f, err
		}
		precision, recall := condition.Agreement(references[i], again, tolerance)
		f.Precision += precision / float64(len(pictures))
		f.Recall += recall / float64(len(pictures))
	}
	if sum := f.Precision + f.Recall; sum > 0 {
		f.F1 = 2 * f.Precision * f.Recall / sum
	}
	return f, nil
}
