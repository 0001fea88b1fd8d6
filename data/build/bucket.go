package build

import "math"

// bucketStep is what the sides of buckets are multiples of: 8 pixels to a latent, of which the UNet halves the size
// three times.
const bucketStep = 64

// size is that of a picture.
type size struct{ width, height int }

// buckets are the sizes of at most area×area pixels in steps of 64: for each width from half the side to twice the side
// the largest height, and the same with the two exchanged.
func buckets(area int) []size {
	var list []size
	for side := max(area/2/bucketStep, 1) * bucketStep; side <= 2*area; side += bucketStep {
		other := area * area / side / bucketStep * bucketStep
		if other < bucketStep {
			break
		}
		list = append(list, size{side, other})
		if other != side {
			list = append(list, size{other, side})
		}
	}
	return list
}

// nearest is the first of the sizes whose shape is nearest to that of a width×height picture, by the ratio of the
// ratios.
func nearest(list []size, width, height int) size {
	best, least := size{}, math.Inf(1)
	for _, s := range list {
		// Ratios of whole numbers, so that which one is nearest is the same on every machine.
		a, b := float64(s.width)*float64(height), float64(s.height)*float64(width)
		if far := max(a/b, b/a); far < least {
			best, least = s, far
		}
	}
	return best
}
