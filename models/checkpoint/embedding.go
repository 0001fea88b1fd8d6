package checkpoint

import "strings"

// isEmbedding tells whose file of a textual inversion this is: A1111's have emb_params, or the dictionary
// that was pickled once, SDXL's clip_l and clip_g; diffusers' have the token itself as their one key.
func isEmbedding(tensors map[string]Tensor) Dialect {
	if len(tensors) == 0 || len(tensors) > 2 {
		return DialectNone
	}
	dialect := DialectDiffusers
	for key, t := range tensors {
		if len(t.Shape) == 0 || len(t.Shape) > 2 || !isFloat(t.DType) {
			return DialectNone
		}
		switch {
		case key == "emb_params", strings.HasPrefix(key, "string_to_param"), key == "clip_l", key == "clip_g":
			dialect = DialectA1111
		case len(tensors) > 1 || strings.Contains(key, "."):
			return DialectNone
		}
	}
	return dialect
}
