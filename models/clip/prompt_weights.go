package clip

import (
	"fmt"
	"math"
)

// ApplyWeights applies the weights of one chunk to its text embeddings, in place. z is [tokens, width], the text
// encoder's output for a row of Encoded.IDs, and weights is the same row of Encoded.Weights, so tokens is len(weights).
//
//   - A1111: z_t ← w_t·z_t, and then all of z times a number that gives it the mean it had, over tokens
//     and width together.
//   - Comfy: z_t ← empty_t + w_t·(z_t − empty_t), where empty, [tokens, width] too, is what the encoder
//     makes of Encoded.Empty. Other styles do not look at empty.
//   - Plain has no weights but 1.
//
// With two text encoders it is called for the embeddings of each. Pooled embeddings are not weighted. Sums are float64.
// If all weights are 1, z is left bit-identical. It fails if the sizes disagree, if the style is unknown, and for A1111
// if no number restores the mean.
func ApplyWeights(style Style, z, empty, weights []float32, width int) error {
	if width < 1 || len(z) != len(weights)*width {
		return fmt.Errorf("apply weights: got %d values for %d tokens of width %d", len(z), len(weights), width)
	}
	if !(Encoded{Weights: [][]float32{weights}}).Weighted() {
		return nil
	}
	switch style {
	case A1111:
		return scaleTokens(z, weights, width)
	case Comfy:
		if len(empty) != len(z) {
			return fmt.Errorf("apply weights: got %d values of the empty prompt, want %d", len(empty), len(z))
		}
		for i := range z {
			if w := float64(weights[i/width]); w != 1 {
				z[i] = float32(float64(empty[i]) + w*(float64(z[i])-float64(empty[i])))
			}
		}
		return nil
	}
	return fmt.Errorf("apply weights: style %q has no weights", style)
}

// scaleTokens multiplies each token's embedding by its weight and restores the mean.
func scaleTokens(z, weights []float32, width int) error {
	var before, after float64 // sums, whose ratio is that of the means
	for i, v := range z {
		before += float64(v)
		after += float64(v) * float64(weights[i/width])
	}
	restore := before / after
	if math.IsNaN(restore) || math.IsInf(restore, 0) {
		return fmt.Errorf("apply weights: the mean was %g and is %g with weights: nothing restores it",
			before/float64(len(z)), after/float64(len(z)))
	}
	for i, v := range z {
		z[i] = float32(float64(v) * float64(weights[i/width]) * restore)
	}
	return nil
}
