package condition

import "limner/data/imaging"

// Outline marks whatever stands out: half of Canny's usual thresholds find it in pictures that are still soft.
func Outline(m *imaging.RGB) *imaging.RGB { return Canny(m, CannyLow/2, CannyHigh/2, false) }
