package sample

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"limner/models/clip"
	"limner/xla"
	"limner/xla/program"
)

// embedding is what the network is told of one prompt.
type embedding struct {
	text   []float32 // [chunks·tokens, cross_attention_dim]
	pooled []float32 // [PooledDim]; nil but in SDXL
}

// embeddings are those of a request.
type embeddings struct {
	chunks           int         // of each text
	prompt, negative []embedding // one for each image; negative is nil without guidance
}

// sameTexts says whether two requests have the same prompts to encode, in the same way: then their embeddings are the
// same to the bit.
func sameTexts(a, b Request) bool {
	return slices.Equal(a.Prompts, b.Prompts) && slices.Equal(a.NegativePrompts, b.NegativePrompts) &&
		a.PromptStyle == b.PromptStyle &&
		a.TruncatePrompts == b.TruncatePrompts && a.ClipSkip == b.ClipSkip &&
		guided(a.GuidanceScale) == guided(b.GuidanceScale) && slices.Equal(a.LoRAScales, b.LoRAScales)
}

// encode turns the prompts of a request into embeddings. Each distinct chunk is encoded once.
func (p *Pipeline) encode(ctx context.Context, r Request) (*embeddings, error) {
	negatives := guided(r.GuidanceScale) && !p.zeroNegative(r)
	tokens := map[string][]clip.Encoded{} // by prompt, for each text encoder
	for i, prompt := range r.Prompts {
		wanted := []string{prompt}
		if negatives {
			wanted = append(wanted, r.negative(i))
		}
		for _, text := range wanted {
			if tokens[text] != nil {
				continue
			}
			encoded, err := p.tokenize(r, text)
			if err != nil {
				return nil, fmt.Errorf("prompt %q: %w", text, err)
			}
			tokens[text] = encoded
		}
	}
	align(tokens)

	out := &embeddings{chunks: len(tokens[r.Prompts[0]][0].IDs)}
	var err error
	if out.prompt, err = p.embed(ctx, r, r.ClipSkip, tokens, r.Prompts); err != nil {
		return nil, err
	}
	switch {
	case negatives:
		texts := make([]string, len(r.Prompts))
		for i := range texts {
			texts[i] = r.negative(i)
		}
		// diffusers leaves no layers out for negative prompts, whatever clip_skip says.
		out.negative, err = p.embed(ctx, r, 0, tokens, texts)
	case guided(r.GuidanceScale):
		for _, e := range out.prompt {
			out.negative = append(out.negative, embedding{make([]float32, len(e.text)), make([]float32, len(e.pooled))})
		}
	}
	return out, err
}

// embed gives the embeddings of texts, whose tokens are known.
func (p *Pipeline) embed(ctx context.Context, r Request, clipSkip int, tokens map[string][]clip.Encoded,
	texts []string) ([]embedding, error) {
	w := &chunkEncoder{p: p, clipSkip: clipSkip, scales: r.scales(len(p.model.LoRAs)), done: map[string]chunk{}}
	for _, text := range texts {
		w.want(tokens[text])
	}
	if err := w.run(ctx); err != nil {
		return nil, err
	}
	out, have := make([]embedding, len(texts)), map[string]embedding{}
	for i, text := range texts {
		e, ok := have[text]
		if !ok {
			var err error
			if e, err = w.assemble(r.PromptStyle, tokens[text]); err != nil {
				return nil, fmt.Errorf("prompt %q: %w", text, err)
			}
			have[text] = e
		}
		out[i] = e
	}
	return out, nil
}

// zeroNegative says whether zeros stand for the negative prompts: SDXL's way where none is given.
func (p *Pipeline) zeroNegative(r Request) bool {
	return len(r.NegativePrompts) == 0 && p.model.Pipeline.XL() && p.model.Pipeline.ForceZeros
}

// chunkEncoder runs the text encoders on distinct chunks.
type chunkEncoder struct {
	p        *Pipeline
	clipSkip int
	scales   []float32 // of the LoRAs
	wanted   []chunk
	done     map[string]chunk // by key
}

func chunkKey(ids [][]int32) string { return fmt.Sprint(ids) }

// row is chunk i of a prompt, for each text encoder; -1 is the empty prompt.
func row(encoded []clip.Encoded, i int) [][]int32 {
	ids := make([][]int32, len(encoded))
	for k, e := range encoded {
		if ids[k] = e.Empty; i >= 0 {
			ids[k] = e.IDs[i]
		}
	}
	return ids
}

// want notes the chunks of a prompt, and the empty one if weights need it.
func (w *chunkEncoder) want(encoded []clip.Encoded) {
	first := 0
	if slices.ContainsFunc(encoded, clip.Encoded.Weighted) {
		first = -1
	}
	for i := first; i < len(encoded[0].IDs); i++ {
		ids := row(encoded, i)
		if key := chunkKey(ids); w.done[key].ids == nil {
			w.done[key] = chunk{ids: ids}
			w.wanted = append(w.wanted, chunk{ids: ids})
		}
	}
}

// run encodes what is wanted, a batch at a time. The last batch is filled up with copies.
func (w *chunkEncoder) run(ctx context.Context) error {
	encoder, err := w.p.textProgram(ctx, w.clipSkip)
	if err != nil {
		return err
	}
	for rows := range slices.Chunk(w.wanted, w.p.shape.Batch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.encodeRows(encoder, rows); err != nil {
			return fmt.Errorf("encode prompts: %w", err)
		}
	}
	return nil
}

func (w *chunkEncoder) encodeRows(encoder *program.Program, rows []chunk) (err error) {
	inputs := program.Arrays{}
	defer func() { err = errors.Join(err, inputs.Free()) }()
	if inputs[inputLoRAs], err = xla.Put(w.p.backend, w.scales, xla.Replicated, len(w.scales)); err != nil {
		return err
	}
	encoders := w.p.model.encoders()
	for k, e := range encoders {
		var ids []int32
		for i := range w.p.shape.Batch {
			ids = append(ids, rows[min(i, len(rows)-1)].ids[k]...)
		}
		if inputs[e.ids()], err = xla.Put(w.p.backend, ids, xla.Batch, w.p.shape.Batch,
			len(ids)/w.p.shape.Batch); err != nil {
			return err
		}
	}
	outputs, err := w.p.apply(encoder, inputs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, outputs.Free()) }()
	each := func(output string, keep func(c *chunk, values []float32)) error {
		values, err := xla.Get[float32](outputs[output])
		if err != nil {
			return err
		}
		size := len(values) / w.p.shape.Batch
		for i := range rows {
			keep(&rows[i], values[i*size:(i+1)*size])
		}
		return nil
	}
	for _, e := range encoders {
		if err := each(e.Name, func(c *chunk, values []float32) { c.hidden = append(c.hidden, values) }); err != nil {
			return err
		}
	}
	if outputs[outputPooled] != nil {
		if err := each(outputPooled, func(c *chunk, values []float32) { c.pooled = values }); err != nil {
			return err
		}
	}
	for _, c := range rows {
		w.done[chunkKey(c.ids)] = c
	}
	return nil
}

// assemble joins the chunks of a prompt, with its weights applied and the text encoders side by side. The pooled
// embedding is that of the first chunk.
func (w *chunkEncoder) assemble(style clip.Style, encoded []clip.Encoded) (embedding, error) {
	encoders := w.p.model.encoders()
	var out embedding
	for i := range encoded[0].IDs {
		c := w.done[chunkKey(row(encoded, i))]
		if i == 0 {
			out.pooled = c.pooled
		}
		hidden := make([][]float32, len(encoders))
		for k, e := range encoders {
			hidden[k] = slices.Clone(c.hidden[k])
			var empty []float32
			if encoded[k].Weighted() {
				empty = w.done[chunkKey(row(encoded, -1))].hidden[k]
			}
			if err := clip.ApplyWeights(style, hidden[k], empty, encoded[k].Weights[i],
				e.Config.HiddenSize); err != nil {
				return embedding{}, err
			}
		}
		for token := range encoded[0].IDs[i] {
			for k, e := range encoders {
				out.text = append(out.text, hidden[k][token*e.Config.HiddenSize:(token+1)*e.Config.HiddenSize]...)
			}
		}
	}
	return out, nil
}
