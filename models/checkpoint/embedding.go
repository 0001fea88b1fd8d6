package checkpoint

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
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

// Embedding is a textual inversion: the vectors that stand for a token, of the width of each text encoder.
type Embedding struct {
	Token   string
	tensors map[string]safetensors.Tensor // as the file spells them
}

// encoderKeys are the keys of a text encoder's vectors in files for several encoders: its name in the original code of
// SDXL, and that of diffusers' earlier scripts.
var encoderKeys = map[string][]string{
	TextEncoder:  {"clip_l", "text_encoders_0"},
	TextEncoder2: {"clip_g", "text_encoders_1"},
}

// isEncoderKey says whether the vectors under a key are those of one of several text encoders.
func isEncoderKey(key string) bool {
	return slices.Contains(encoderKeys[TextEncoder], key) || slices.Contains(encoderKeys[TextEncoder2], key)
}

// Embedding is the textual inversion that the file holds. Its token is the key of diffusers' files, else what the
// metadata says, else the file's name without its extension.
func (c *Checkpoint) Embedding() (Embedding, error) {
	if c.Kind != KindEmbedding {
		return Embedding{}, fmt.Errorf("it holds no textual inversion but: %s", c.What())
	}
	e := Embedding{Token: strings.TrimSuffix(filepath.Base(c.path), filepath.Ext(c.path)), tensors: c.tensors}
	if c.Dialect == DialectDiffusers {
		e.Token = c.Keys()[0]
	} else if token := c.Metadata[tokenMetadata]; token != "" {
		e.Token = token
	}
	return e, nil
}

// Vectors are those for a text encoder, TextEncoder or TextEncoder2: the only tensor, or the one under the encoder's
// key.
func (e Embedding) Vectors(component string) (safetensors.Tensor, error) {
	for key, t := range e.tensors {
		if len(e.tensors) == 1 || slices.Contains(encoderKeys[component], key) {
			return t, nil
		}
	}
	return safetensors.Tensor{}, fmt.Errorf("it has no %s for the %s, only %s", encoderKeys[component][0], component,
		strings.Join(slices.Sorted(maps.Keys(e.tensors)), ", "))
}

// isEmbedding tells whose file of a textual inversion this is: A1111's have emb_params, or the dictionary that was
// pickled once, those for several text encoders the encoders' keys; diffusers' have the token itself as their one key.
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
		case key == "emb_params", strings.HasPrefix(key, "string_to_param"), isEncoderKey(key):
			dialect = DialectA1111
		case len(tensors) > 1 || strings.Contains(key, "."):
			return DialectNone
		}
	}
	return dialect
}

// bundlePrefix begins the keys of textual inversions in the file of a LoRA: bundle_emb.TOKEN.KEY.
const bundlePrefix = "bundle_emb."

// bundled takes the textual inversions out of the tensors of a LoRA's file, in the order of their tokens.
func bundled(tensors map[string]safetensors.Tensor) ([]Embedding, error) {
	byToken := map[string]map[string]safetensors.Tensor{}
	for key, t := range tensors {
		rest, ok := strings.CutPrefix(key, bundlePrefix)
		if !ok {
			continue
		}
		token, name, _ := strings.Cut(rest, ".")
		if byToken[token] == nil {
			byToken[token] = map[string]safetensors.Tensor{}
		}
		byToken[token][name] = t
	}
	var all []Embedding
	for _, token := range slices.Sorted(maps.Keys(byToken)) {
		if isEmbedding(byToken[token]) != DialectA1111 {
			return nil, fmt.Errorf("%s%s: no textual inversion: want emb_params or string_to_param of one text "+
				"encoder, or clip_l and clip_g; got %s",
				bundlePrefix, token, strings.Join(slices.Sorted(maps.Keys(byToken[token])), ", "))
		}
		all = append(all, Embedding{token, byToken[token]})
	}
	return all, nil
}
