package sample

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"limner/models/clip"
)

// tokenize gives the chunks of a prompt for each text encoder, and tells of prompts that do not fit into one.
func (p *Pipeline) tokenize(r Request, prompt string) ([]clip.Encoded, error) {
	var out []clip.Encoded
	if err := noLoRATag(prompt); err != nil {
		return nil, err
	}
	for i, e := range p.model.encoders() {
		encoded, err := e.tokenizer.EncodePrompt(r.PromptStyle, prompt)
		if err != nil {
			return nil, err
		}
		if n := len(encoded.IDs); n > 1 && i == 0 {
			size := e.tokenizer.MaxLength() - 2
			if r.TruncatePrompts {
				p.tell("prompt %q is cut after %d of its %d tokens\n", opening(prompt), size, encoded.Tokens)
			} else {
				p.tell("prompt %q has %d tokens: it is encoded in %d chunks of %d\n",
					opening(prompt), encoded.Tokens, n, size)
			}
		}
		if r.TruncatePrompts {
			encoded.IDs, encoded.Weights = encoded.IDs[:1], encoded.Weights[:1]
		}
		out = append(out, encoded)
	}
	return out, nil
}

// noLoRATag fails for a prompt that names LoRAs: callers apply them and take their names out.
func noLoRATag(prompt string) error {
	if clip.HasLoRATag(prompt) {
		return errors.New("<lora:…> names a LoRA, which limner sample applies with prompt_style a1111; " +
			"elsewhere the text encoder would read it as words")
	}
	return nil
}

// tell writes a line to Log, once for all pipelines that share Logged.
func (p *Pipeline) tell(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !p.model.Logged[line] {
		p.model.Logged[line] = true
		fmt.Fprint(p.model.Log, line)
	}
}

// opening is enough of a prompt to know it by.
func opening(prompt string) string {
	const enough = 60
	if letters := []rune(prompt); len(letters) > enough {
		return string(letters[:enough]) + "…"
	}
	return prompt
}

// Chunks is the number of chunks that the longest text of a request takes. All its images are sampled with that many,
// which makes them others than with fewer.
func (m Model) Chunks(r Request) (int, error) {
	if r.TruncatePrompts {
		return 1, nil
	}
	texts := r.Prompts
	if guided(r.GuidanceScale) {
		texts = slices.Concat(texts, r.NegativePrompts)
	}
	most := 1
	for _, text := range texts {
		if err := noLoRATag(text); err != nil {
			return 0, fmt.Errorf("prompt %q: %w", text, err)
		}
		for _, e := range m.encoders() {
			encoded, err := e.tokenizer.EncodePrompt(r.PromptStyle, text)
			if err != nil {
				return 0, fmt.Errorf("prompt %q: %w", text, err)
			}
			most = max(most, len(encoded.IDs))
		}
	}
	return most, nil
}

// align gives all prompts the same number of chunks.
func align(prompts map[string][]clip.Encoded) {
	texts := slices.Sorted(maps.Keys(prompts))
	var all []clip.Encoded
	for _, text := range texts {
		all = append(all, prompts[text]...)
	}
	all = clip.AlignChunks(all...)
	for _, text := range texts {
		all = all[copy(prompts[text], all):]
	}
}

// chunk is what the text encoders make of one row of token ids each.
type chunk struct {
	ids    [][]int32   // by encoder
	hidden [][]float32 // by encoder: [tokens, hidden_size]
	pooled []float32
}
