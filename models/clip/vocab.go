package clip

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
)

// The padding of a chunk, by model: SD 1.x and the first encoder of SDXL repeat the end token, SD 2.x and the second
// encoder of SDXL use "!".
const (
	PadEnd         = endToken
	PadExclamation = "!"
)

//go:embed vocab/merges.txt.gz
var clipMerges []byte

// Standard is the tokenizer of OpenAI CLIP, for checkpoints that carry none: 49,408 tokens, 77 ids for
// a prompt. pad is PadEnd or PadExclamation. Special tokens are as in Stable Diffusion's own folders,
// so they are searched for in the same way.
func Standard(pad string) (*Tokenizer, error) {
	if pad != PadEnd && pad != PadExclamation {
		return nil, fmt.Errorf("standard tokenizer: got padding %q, want %q or %q", pad, PadEnd, PadExclamation)
	}
	unzip, err := gzip.NewReader(bytes.NewReader(clipMerges))
	if err != nil {
		return nil, fmt.Errorf("standard tokenizer: %w", err)
	}
	merges, err := io.ReadAll(unzip)
	if err != nil {
		return nil, fmt.Errorf("standard tokenizer: %w", err)
	}
	t := newVocabulary(defaultMaxLength)
	if err := t.parseMerges(string(merges), func(left, right string) { t.addToken(left + right) }); err != nil {
		return nil, fmt.Errorf("standard tokenizer: %w", err)
	}
	t.addToken(startToken)
	t.addToken(endToken)
	err = t.addSpecial(map[string]tokenField{
		"bos_token": {Content: startToken, Normalized: true},
		"eos_token": {Content: endToken, Normalized: true},
		"unk_token": {Content: endToken, Normalized: true},
		"pad_token": {Content: pad},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("standard tokenizer: %w", err)
	}
	return t, nil
}
