package sample

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
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

// encoder is one text encoder of a model.
type encoder struct {
	component string
	config    clip.Config
	tokenizer *clip.Tokenizer
}

func (m Model) encoders() []encoder {
	p := m.Pipeline
	all := []encoder{{diffusers.TextEncoder, p.Text, p.Tokenizer}}
	if p.XL != nil {
		all = append(all, encoder{diffusers.TextEncoder2, p.XL.Text, p.XL.Tokenizer})
	}
	return all
}

// encoderNames are the names of the text encoders.
func (m Model) encoderNames() []string {
	var names []string
	for _, e := range m.encoders() {
		names = append(names, e.component)
	}
	return names
}

// withoutAdded lists the parameters of a text encoder with those that are added to its table of token embeddings apart, behind it.
func (m Model) withoutAdded(tree nn.Tree) nn.Tree {
	var out nn.Tree
	for _, spec := range tree {
		added := m.Added[spec.Key]
		for _, rows := range added {
			spec.Shape = []int{spec.Shape[0] - rows.Shape[0], spec.Shape[1]}
		}
		out = append(append(out, spec), added...)
	}
	return out
}

// withAdded puts the added rows behind those of the tables, in the tables' dtype.
func (m Model) withAdded(tree nn.Tree, params nn.Params) nn.Params {
	var tables nn.Tree
	var nodes []*Node
	for _, spec := range tree {
		if m.Added[spec.Key] == nil {
			continue
		}
		parts := []*Node{params.Param(spec.Key, spec.Kind, spec.Init, spec.FanIn, spec.Shape...)}
		for _, rows := range m.Added[spec.Key] {
			x := params.Param(rows.Key, rows.Kind, rows.Init, rows.FanIn, rows.Shape...)
			parts = append(parts, ConvertDType(x, parts[0].DType()))
		}
		table := Concatenate(parts, 0)
		spec.Shape = table.Shape().Dimensions
		tables, nodes = append(tables, spec), append(nodes, table)
	}
	return nn.Join(nn.Bind(tables, nodes), params)
}

// textFunction maps token ids int32 [batch, tokens], one input for each text encoder, to its text embeddings float32
// [batch, tokens, hidden_size] and, in SDXL, to the second one's pooled embeddings float32 [batch, projection_dim] behind
// them. clipSkip is the number of last layers to leave out. SDXL leaves out one more than it says, and the final norm.
func (p *Pipeline) textFunction(clipSkip int) xla.Function {
	tree, encoders, xl := p.trees.text, p.model.encoders(), p.model.Pipeline.XL != nil
	f := xla.Function{Name: "encode_text", Inputs: append(p.parameters(tree), p.model.loraScales())}
	for _, e := range encoders {
		f.Inputs = append(f.Inputs, batch(e.component+"_ids", dtypes.Int32, p.shape.Batch, e.tokenizer.MaxLength()))
		f.Outputs = append(f.Outputs, xla.Batch)
	}
	if xl {
		f.Outputs = append(f.Outputs, xla.Batch)
	}
	f.Build = func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
		params, ids := p.model.withAdded(tree, p.bind(tree, in)), in[len(tree)+1:]
		params = p.model.withLoRAs(params, in[len(tree)])
		var pooled *Node
		for i, e := range encoders {
			place := params.In(e.component)
			out := e.config.Forward(place, ids[i], p.model.Compute)
			hidden := out.LastHiddenState
			switch last := len(out.HiddenStates) - 1; {
			case xl:
				hidden = out.HiddenStates[last-1-clipSkip]
			case clipSkip > 0:
				hidden = e.config.FinalNorm(place.In("text_model"), out.HiddenStates[last-clipSkip])
			}
			outputs = append(outputs, ConvertDType(hidden, dtypes.Float32))
			pooled = out.TextEmbeds
		}
		if xl {
			outputs = append(outputs, ConvertDType(pooled, dtypes.Float32))
		}
		return nil, outputs
	}
	return f
}

// maxClipSkip is how many layers every text encoder can leave out.
func (m Model) maxClipSkip() int {
	most := m.Pipeline.Text.NumHiddenLayers
	if xl := m.Pipeline.XL; xl != nil {
		most = min(most, xl.Text.NumHiddenLayers) - 1
	}
	return most
}

// sameTexts says whether two requests have the same prompts to encode, in the same way: then their embeddings are the same to the bit.
func sameTexts(a, b Request) bool {
	return slices.Equal(a.Prompts, b.Prompts) && slices.Equal(a.NegativePrompts, b.NegativePrompts) && a.PromptStyle == b.PromptStyle &&
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
func (p *Pipeline) embed(ctx context.Context, r Request, clipSkip int, tokens map[string][]clip.Encoded, texts []string) ([]embedding, error) {
	w := &chunkEncoder{Pipeline: p, clipSkip: clipSkip, scales: r.scales(len(p.model.LoRAs)), done: map[string]chunk{}}
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
	return len(r.NegativePrompts) == 0 && p.model.Pipeline.XL != nil && p.model.Pipeline.XL.ForceZeros
}

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
				p.tell("prompt %q has %d tokens: it is encoded in %d chunks of %d\n", opening(prompt), encoded.Tokens, n, size)
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
		return errors.New("<lora:…> names a LoRA, which limner sample applies with prompt_style a1111; elsewhere the text encoder would read it as words")
	}
	return nil
}

// tell writes a line to Log, once.
func (p *Pipeline) tell(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !p.told[line] {
		p.told[line] = true
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

// Chunks is the number of chunks that the longest text of a request takes. All its images are drawn with that many, which makes them others
// than with fewer.
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

// chunkEncoder runs the text encoders on distinct chunks.
type chunkEncoder struct {
	*Pipeline
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
	program, err := w.textProgram(ctx, w.clipSkip)
	if err != nil {
		return err
	}
	for rows := range slices.Chunk(w.wanted, w.shape.Batch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.encodeRows(program, rows); err != nil {
			return fmt.Errorf("encode prompts: %w", err)
		}
	}
	return nil
}

func (w *chunkEncoder) encodeRows(program *xla.Program, rows []chunk) (err error) {
	var arrays []*xla.Array
	defer func() {
		for _, a := range arrays {
			err = errors.Join(err, a.Free())
		}
	}()
	scales, err := xla.Put(w.backend, w.scales, xla.Replicated, len(w.scales))
	if err != nil {
		return err
	}
	arrays = append(arrays, scales)
	encoders := w.model.encoders()
	for k := range encoders {
		var ids []int32
		for i := range w.shape.Batch {
			ids = append(ids, rows[min(i, len(rows)-1)].ids[k]...)
		}
		a, err := xla.Put(w.backend, ids, xla.Batch, w.shape.Batch, len(ids)/w.shape.Batch)
		if err != nil {
			return err
		}
		arrays = append(arrays, a)
	}
	outputs, err := program.Run(nil, w.arguments(w.trees.text, arrays...)...)
	if err != nil {
		return err
	}
	arrays = append(arrays, outputs...)
	for k, a := range outputs {
		values, err := xla.Get[float32](a)
		if err != nil {
			return err
		}
		size := len(values) / w.shape.Batch
		for i := range rows {
			one := values[i*size : (i+1)*size]
			if k < len(encoders) {
				rows[i].hidden = append(rows[i].hidden, one)
			} else {
				rows[i].pooled = one
			}
		}
	}
	for _, c := range rows {
		w.done[chunkKey(c.ids)] = c
	}
	return nil
}

// assemble joins the chunks of a prompt, with its weights applied and the text encoders side by side. The pooled embedding is
// that of the first chunk.
func (w *chunkEncoder) assemble(style clip.Style, encoded []clip.Encoded) (embedding, error) {
	encoders := w.model.encoders()
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
			if err := clip.ApplyWeights(style, hidden[k], empty, encoded[k].Weights[i], e.config.HiddenSize); err != nil {
				return embedding{}, err
			}
		}
		for token := range encoded[0].IDs[i] {
			for k, e := range encoders {
				out.text = append(out.text, hidden[k][token*e.config.HiddenSize:(token+1)*e.config.HiddenSize]...)
			}
		}
	}
	return out, nil
}
