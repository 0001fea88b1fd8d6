package condition

import "limner/data/imaging"

// Outline is Canny with half of its usual thresholds, which also finds edges in images that are still soft.
func Outline(m *imaging.RGB) *imaging.RGB { return Canny(m, CannyLow/2, CannyHigh/2, false) }
