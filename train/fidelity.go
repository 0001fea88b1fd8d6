package train

import (
	"slices"

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
func fidelity(extract condition.Extractor, references, pictures []*imaging.RGB) Fidelity {
	var f Fidelity
	for i, m := range pictures {
		tolerance := max(1, int(fidelityTolerance*float64(m.Width)+0.5))
		precision, recall := condition.Agreement(references[i], extract(m), tolerance)
		f.Precision += precision / float64(len(pictures))
		f.Recall += recall / float64(len(pictures))
	}
	if sum := f.Precision + f.Recall; sum > 0 {
		f.F1 = 2 * f.Precision * f.Recall / sum
	}
	return f
}

// Convergence is when a ControlNet began to follow its condition.
type Convergence struct {
	After, Before int     // the steps of the validations between which it did
	From, To      float64 // F1 there
}

// convergence finds sudden convergence in validations, in order of their steps: the largest rise of F1 from one to the next, if it is
// at least half of all that F1 ever rose, and at least 0.15. nil where there is none, as when it rises evenly.
func convergence(validations []Validated) *Convergence {
	const least = 0.15
	measured := slices.DeleteFunc(slices.Clone(validations), func(v Validated) bool { return v.Fidelity == nil })
	if len(measured) < 2 {
		return nil
	}
	var best *Convergence
	low, high := measured[0].Fidelity.F1, measured[0].Fidelity.F1
	for i, v := range measured[1:] {
		was, is := measured[i], v.Fidelity.F1
		low, high = min(low, is), max(high, is)
		if rise := is - was.Fidelity.F1; best == nil || rise > best.To-best.From {
			best = &Convergence{After: was.Step, Before: v.Step, From: was.Fidelity.F1, To: is}
		}
	}
	if rise := best.To - best.From; rise < least || rise < (high-low)/2 {
		return nil
	}
	return best
}
