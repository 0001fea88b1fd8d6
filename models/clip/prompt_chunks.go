package clip

import (
	"fmt"
	"slices"
)

// Encoded is a prompt in the form that the text encoder takes. Each row of IDs is a chunk of the tokenizer's MaxLength:
// start token, up to MaxLength-2 tokens, end token, padding. The same row of Weights has the weight of each id; start,
// end and padding have weight 1. There is at least one row. The pooled text embedding is that of the first.
type Encoded struct {
	IDs     [][]int32
	Weights [][]float32
	Tokens  int     // of the prompt, without start, end and padding
	Empty   []int32 // the row of an empty prompt
}

// Weighted says whether any weight differs from 1, that is, whether ApplyWeights changes anything.
func (e Encoded) Weighted() bool {
	for _, row := range e.Weights {
		for _, w := range row {
			if w != 1 {
				return true
			}
		}
	}
	return false
}

const (
	commaReach  = 20 // A1111's comma_padding_backtrack
	longSegment = 8  // ComfyUI's max_word_length
)

// EncodePrompt parses a prompt and encodes its segments. It fails where ParsePrompt or EncodeSegments
// does.
func (t *Tokenizer) EncodePrompt(style Style, prompt string) (Encoded, error) {
	segments, err := ParsePrompt(style, prompt)
	if err != nil {
		return Encoded{}, err
	}
	return t.EncodeSegments(style, segments)
}

// EncodeSegments encodes segments in as many chunks as they need; style says where one ends:
//
//   - Plain: when it is full. The first chunk is what EncodePadded returns.
//   - A1111: when it is full or at a break. If there is a comma in the last 20 tokens of a full chunk,
//     what follows the comma moves to the next one. A textual inversion is never cut.
//   - Comfy: before a segment of fewer than 8 tokens, or a textual inversion of fewer than 8 vectors,
//     that does not fit; longer ones are cut where the chunk is full.
//
// A textual inversion or segment longer than a chunk is cut in every style. It fails for a tokenizer whose MaxLength
// leaves no room for a token, for an unknown style, and for a weight beyond float32.
func (t *Tokenizer) EncodeSegments(style Style, segments []Segment) (Encoded, error) {
	if err := style.check(); err != nil {
		return Encoded{}, fmt.Errorf("encode prompt: %w", err)
	}
	c := chunker{t: t, size: t.maxLength - 2, lastComma: -1, comma: -1}
	if c.size < 1 {
		return Encoded{}, fmt.Errorf("encode prompt: a tokenizer of length %d has no room for a token", t.maxLength)
	}
	if id, ok := t.ids[","+wordEnd]; ok {
		c.comma = id
	}
	for _, s := range segments {
		weight := float32(s.Weight)
		if weight-weight != 0 {
			return Encoded{}, fmt.Errorf("encode prompt: weight %g of %q is not a float32", s.Weight, s.Text)
		}
		if s.Break {
			c.flush()
			continue
		}
		for _, part := range t.parts(s.Text) {
			c.out.Tokens += len(part.ids)
			switch style {
			case A1111:
				c.addA1111(part, weight)
			case Comfy:
				c.addComfy(part, weight)
			default:
				c.fill(part.ids, weight)
			}
		}
	}
	if len(c.ids) > 0 || len(c.out.IDs) == 0 {
		c.flush()
	}
	c.out.Empty = t.row(nil)
	return c.out, nil
}

// AlignChunks gives all encodings as many chunks as the longest has, by adding empty ones: a prompt and its negative
// prompt, of one or more text encoders, must agree. The arguments are not changed.
func AlignChunks(encodings ...Encoded) []Encoded {
	most := 0
	for _, e := range encodings {
		most = max(most, len(e.IDs))
	}
	out := make([]Encoded, len(encodings))
	for i, e := range encodings {
		e.IDs, e.Weights = slices.Clone(e.IDs), slices.Clone(e.Weights)
		for len(e.IDs) < most {
			e.IDs = append(e.IDs, slices.Clone(e.Empty))
			e.Weights = append(e.Weights, ones(len(e.Empty)))
		}
		out[i] = e
	}
	return out
}

// part is a run of tokens, or one textual inversion.
type part struct {
	ids       []int32
	inversion bool
}

// parts encodes text, with textual inversions as parts of their own.
func (t *Tokenizer) parts(text string) []part {
	var out []part
	run := func() *part {
		if len(out) == 0 || out[len(out)-1].inversion {
			out = append(out, part{})
		}
		return &out[len(out)-1]
	}
	t.visit(text, func(word string) {
		p := run()
		p.ids = t.appendWord(p.ids, word)
	}, func(id int32) {
		if vectors, ok := t.special.vectors[id]; ok {
			out = append(out, part{ids: vectors, inversion: true})
			return
		}
		p := run()
		p.ids = append(p.ids, id)
	})
	return out
}

// row is a chunk of at most MaxLength-2 ids.
func (t *Tokenizer) row(ids []int32) []int32 {
	row := make([]int32, 0, t.maxLength)
	row = append(append(append(row, t.special.bos), ids...), t.special.eos)
	for len(row) < t.maxLength {
		row = append(row, t.special.pad)
	}
	return row
}

func ones(n int) []float32 {
	row := make([]float32, n)
	for i := range row {
		row[i] = 1
	}
	return row
}

// chunker collects tokens and their weights into chunks.
type chunker struct {
	t         *Tokenizer
	size      int // tokens in a full chunk
	ids       []int32
	weights   []float32
	comma     int32 // the id of a comma, -1 if there is none
	lastComma int   // where the current chunk's last comma is, -1 if it has none
	out       Encoded
}

// flush ends the current chunk.
func (c *chunker) flush() {
	weights := ones(c.t.maxLength)
	copy(weights[1:], c.weights)
	c.out.IDs, c.out.Weights = append(c.out.IDs, c.t.row(c.ids)), append(c.out.Weights, weights)
	c.ids, c.weights, c.lastComma = c.ids[:0], c.weights[:0], -1
}

func (c *chunker) add(id int32, weight float32) {
	if len(c.ids) == c.size {
		c.flush()
	}
	c.ids, c.weights = append(c.ids, id), append(c.weights, weight)
}

func (c *chunker) fill(ids []int32, weight float32) {
	for _, id := range ids {
		c.add(id, weight)
	}
}

func (c *chunker) addA1111(p part, weight float32) {
	if p.inversion {
		c.moveAfterComma()
		if len(c.ids)+len(p.ids) > c.size && len(c.ids) > 0 {
			c.flush()
		}
		c.fill(p.ids, weight)
		return
	}
	for _, id := range p.ids {
		if id == c.comma {
			c.lastComma = len(c.ids)
		} else {
			c.moveAfterComma()
		}
		c.add(id, weight)
	}
}

// moveAfterComma ends a full chunk after its last comma, if that is near, and moves what follows to the next chunk.
func (c *chunker) moveAfterComma() {
	if len(c.ids) != c.size || c.lastComma < 0 || len(c.ids)-c.lastComma > commaReach {
		return
	}
	from := c.lastComma + 1
	ids, weights := slices.Clone(c.ids[from:]), slices.Clone(c.weights[from:])
	c.ids, c.weights = c.ids[:from], c.weights[:from]
	c.flush()
	c.ids, c.weights = ids, weights
}

func (c *chunker) addComfy(p part, weight float32) {
	if n := len(p.ids); n < longSegment && n <= c.size && len(c.ids)+n > c.size {
		c.flush()
	}
	c.fill(p.ids, weight)
}
