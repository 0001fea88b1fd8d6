package check

import (
	"math"
	"slices"

	"limner/data/build"
	"limner/data/quality"
	"limner/internal/settings"
)

// mended are the kinds of findings whose rows a cleaned copy leaves out.
var mended = []string{
	"unreadable", "truncated", "other_shape", "black_mask", "leaks", "near_leaks", "blank_conditions",
	"near_blank_conditions", "blank_images", "duplicates", "near_duplicates", "tiny", "empty_captions",
}

// Fix is the build that writes a cleaned copy of the dataset into a folder: pictures as they are, without the rows that
// are errors or warnings by themselves. Their likes among the held-out rows are left out of train. See Unmended for
// what it leaves as it is.
func (r *Report) Fix(out string) build.Job {
	s := settings.Default[build.Settings]()
	s.Resolution, s.MaxBadRows = 0, math.MaxInt
	s.MinSide = (2*r.Resolution + 2) / 3 // what is smaller is tiny, see addPictures
	s.MinVariation, s.MinConditionVariation = quality.BlankVariation, quality.NearBlankVariation
	s.DropBlackMasks, s.DropEmptyCaptions = true, !r.reading.NoCaptions
	return build.Job{In: r.paths, HeldOut: r.heldOut, Out: out, Reading: r.reading, Settings: s}
}

// Unmended lists the errors and warnings that a cleaned copy still has.
func (r *Report) Unmended() (left []Finding) {
	for _, f := range r.Findings {
		if f.Severity != Note && !slices.Contains(mended, f.Kind) {
			left = append(left, f)
		}
	}
	return left
}
