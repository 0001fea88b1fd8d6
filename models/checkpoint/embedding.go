package checkpoint

import (
	"path/filepath"
	"strings"

	"limner/models/nn"
	"limner/models/safetensors"
)

// tokenMetadata is the key of the token in the metadata of a textual inversion. diffusers' files of one text encoder
// have the token as their tensor's key, SDXL's have no other place for it.
const tokenMetadata = "placeholder_token"

// SaveEmbedding writes a textual inversion's vectors to dir/name as SaveModel does, in float32, with its token.
func SaveEmbedding(dir, name, token string, tree nn.Tree, values nn.Values) error {
	return saveModel(dir, name, tree, values, "F32", map[string]string{"format": "pt", tokenMetadata: token})
}

// Token is what stands for a textual inversion in prompts: the key of diffusers' files, else what the metadata says,
// else the file's name without its extension.
func (c *Checkpoint) Token() string {
	if c.Dialect == DialectDiffusers {
		return c.Keys()[0]
	}
	if token := c.Metadata[tokenMetadata]; token != "" {
		return token
	}
	return strings.TrimSuffix(filepath.Base(c.path), filepath.Ext(c.path))
}

// isEmbedding tells whose file of a textual inversion this is: A1111's have emb_params, or the dictionary
// that was pickled once, SDXL's clip_l and clip_g; diffusers' have the token itself as their one key.
func isEmbedding(tensors map[string]safetensors.Tensor) Dialect {
	if len(tensors) == 0 || len(tensors) > 2 {
		return DialectNone
	}
	dialect := DialectDiffusers
	for key, t := range tensors {
		if len(t.Shape) == 0 || len(t.Shape) > 2 || !safetensors.IsFloat(t.DType) {
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
