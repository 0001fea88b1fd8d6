package sample

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"limner/models/clip"
)

// embed gives the embeddings of one prompt on SDXL's two text encoders.
func embedPrompt(t *testing.T, p *Pipeline, style clip.Style, prompt string,
	change func(r *Request)) (*embeddings, []float32) {
	t.Helper()
	r := Request{
		Prompts: []string{prompt}, NegativePrompts: []string{""},
		Denoising: Denoising{GuidanceScale: 2}, Encoding: Encoding{PromptStyle: style},
	}
	if change != nil {
		change(&r)
	}
	e, err := p.encode(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return e, e.prompt[0].text
}

func TestLongPrompts(t *testing.T) {
	p := sdxlPipeline(t)
	var log bytes.Buffer
	was := p.model.Log
	defer func() { p.model.Log = was }()
	p.model.Log = &log
	width := p.model.Pipeline.UNet.CrossAttentionDim
	tokens := p.model.Pipeline.Tokenizer.MaxLength()
	long := strings.Repeat("red circle ", 60)
	e, text := embedPrompt(t, p, clip.Plain, long, nil)
	if e.chunks < 2 || len(text) != e.chunks*tokens*width {
		t.Fatalf("%d chunks, %d values", e.chunks, len(text))
	}
	request := Request{Prompts: []string{"a cat", long}, Encoding: Encoding{PromptStyle: clip.Plain}}
	if n, err := p.model.Chunks(request); n != e.chunks || err != nil {
		t.Errorf("the longest prompt takes %d chunks, want %d: %v", n, e.chunks, err)
	}
	request.TruncatePrompts = true
	if n, err := p.model.Chunks(request); n != 1 || err != nil {
		t.Errorf("cut prompts take %d chunks: %v", n, err)
	}
	if len(e.negative[0].text) != len(text) {
		t.Errorf("the negative prompt has %d values, the prompt %d", len(e.negative[0].text), len(text))
	}
	if !strings.Contains(log.String(), "chunks of 75") || strings.Contains(log.String(), long) {
		t.Errorf("log: %q", log.String())
	}
	other := &Pipeline{model: p.model} // such as one for images of another size
	once := log.Len()
	if _, err := other.tokenize(Request{Encoding: Encoding{PromptStyle: clip.Plain}}, long); err != nil ||
		log.Len() != once {
		t.Errorf("pipelines of one job say it twice (%v):\n%s", err, log.String())
	}
	log.Reset()
	one, cut := embedPrompt(t, p, clip.Plain, long, func(r *Request) { r.TruncatePrompts = true })
	if one.chunks != 1 || !slices.Equal(cut, text[:tokens*width]) {
		t.Error("a cut prompt is not the first chunk of the whole one")
	}
	if !slices.Equal(one.prompt[0].pooled, e.prompt[0].pooled) {
		t.Error("the pooled embedding is not that of the first chunk")
	}
	if !strings.Contains(log.String(), "is cut after 75") {
		t.Errorf("log: %q", log.String())
	}
}

func TestPromptStyles(t *testing.T) {
	p := sdxlPipeline(t)
	_, plain := embedPrompt(t, p, clip.Plain, "a red circle", nil)
	_, empty := embedPrompt(t, p, clip.Plain, "", nil)
	for _, style := range []clip.Style{clip.A1111, clip.Comfy} {
		if _, same := embedPrompt(t, p, style, "a (red:1) circle", nil); !slices.Equal(same, plain) {
			t.Errorf("%s: a weight of 1 changes the embedding", style)
		}
		if _, other := embedPrompt(t, p, style, "a (red:1.5) circle", nil); slices.Equal(other, plain) {
			t.Errorf("%s: a weight of 1.5 changes nothing", style)
		}
	}
	// At weight 0, ComfyUI's embedding of a token is that of the empty prompt there.
	width := p.model.Pipeline.UNet.CrossAttentionDim
	_, zero := embedPrompt(t, p, clip.Comfy, "(a red circle:0)", nil)
	if token := zero[width : 2*width]; !slices.Equal(token, empty[width:2*width]) {
		t.Error("comfy: a weight of 0 is not the empty prompt")
	}
	request := Request{
		Prompts: []string{"(x:1" + strings.Repeat("0", 60) + ")"}, Encoding: Encoding{PromptStyle: clip.A1111},
	}
	if _, err := p.encode(context.Background(), request); err == nil || !strings.Contains(err.Error(), "is too large") {
		t.Errorf("a huge weight: got %v", err)
	}
}

// SDXL has zeros for a negative prompt that was not given, and the embedding of "" for one that was.
func TestNegativePromptOfSDXL(t *testing.T) {
	p := sdxlPipeline(t)
	e, _ := embedPrompt(t, p, clip.Plain, "a cat", func(r *Request) { r.NegativePrompts = nil })
	if slices.ContainsFunc(append(e.negative[0].text, e.negative[0].pooled...),
		func(v float32) bool { return v != 0 }) {
		t.Error("not zeros")
	}
	e, _ = embedPrompt(t, p, clip.Plain, "a cat", nil)
	if !slices.ContainsFunc(e.negative[0].text, func(v float32) bool { return v != 0 }) {
		t.Error(`"" gives zeros`)
	}
	// Clip skip changes the prompt, not the negative prompt.
	skip, _ := embedPrompt(t, p, clip.Plain, "a cat", func(r *Request) { r.ClipSkip = 1 })
	if slices.Equal(skip.prompt[0].text, e.prompt[0].text) || !slices.Equal(skip.negative[0].text, e.negative[0].text) {
		t.Error("clip skip: want another prompt and the same negative prompt")
	}
}
