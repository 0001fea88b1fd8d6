package train

import (
	"slices"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/safetensors"
	"limner/train/loss"
)

func TestGoldenTextualInversion(t *testing.T) {
	g, learned := parity.Open(t, "train", "textual_inversion.safetensors"),
		parity.Open(t, "train", "learned_embeds.safetensors")
	p, err := diffusers.Open(golden.Path(t, "sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := p.Load(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	first := g.Get("init_row")
	word, alone := initializer(t, p, values, first.Data)
	tokens := []loss.Token{{Text: learned.Keys()[0], Vectors: 1, Initializer: word}}
	if err := loss.CheckTokens(tokens, p); err != nil {
		t.Fatal(err)
	}
	start, err := loss.AddTokens(tokens, p, checkpoint.InMemory(values))
	if err != nil {
		t.Fatal(err)
	}
	d := Recipe{Compute: dtypes.Float32, Diffusion: Diffusion{CacheLatents: true}}.diffusion("golden",
		Options{Batch: 2}, p, "learned_embeds.")
	d.Tokens = tokens
	spec := loss.TokenTree(tokens, d.TextEncoders())[0]
	if alone {
		parity.Check(t, "the row at first", parity.Tensor{Data: start[spec.Key], Shape: spec.Shape[1:]}, first, 0)
	}
	start[spec.Key] = first.Data
	if o := d.Objective(); len(o.Trainable) != 1 || o.Trainable[0].Key != spec.Key {
		t.Fatalf("got %v trained, want the new row alone", o.Trainable)
	}

	inputs := []parity.Tensor{
		g.Image("batch.latents"), g.Image("batch.noise"), g.Get("batch.timesteps"), g.Get("input_ids"),
	}
	model := parity.Model{Tree: d.Tree(), Values: nn.Merge(values, start)}
	got := parity.Run(t, model, inputs, func(trained nn.Params, in []*Node, out map[string]*Node) {
		s, full := sampleOf(in), d.Params(trained, trained, nil)
		s.Text = d.Context(full, map[string]*Node{loss.InputTokens: ConvertDType(in[3], dtypes.Int32)}).Text
		out["loss"], out["text"] = d.LossBy(d.Predict(full, s), s), s.Text
		out["grad"] = Gradient(out["loss"], trained.Param(spec.Key, spec.Kind, spec.Init, spec.FanIn, spec.Shape...))[0]
	})
	parity.Check(t, "text embeddings", got["text"], g.Get("encoder_hidden_states"), 2e-5)
	parity.CheckNumber(t, "loss", float64(got["loss"].Data[0]), float64(g.Get("loss").Data[0]), 1e-5)
	parity.Check(t, "gradient", parity.Tensor{Data: got["grad"].Data, Shape: spec.Shape[1:]}, g.Get("grad_row"), 2e-4)

	dir := t.TempDir()
	if err := loss.SaveTokens(dir, d, nn.Values{spec.Key: g.Get("row_after_step").Data}); err != nil {
		t.Fatal(err)
	}
	saved, err := safetensors.Open(dir + "/learned_embeds.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	if !slices.Equal(saved.Keys(), learned.Keys()) {
		t.Errorf("the file has %v, want %v", saved.Keys(), learned.Keys())
	}
	tensor, _ := saved.Tensor(tokens[0].Text)
	row, err := tensor.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	parity.Check(t, "the file", parity.Tensor{Data: row, Shape: tensor.Shape}, learned.Get(tokens[0].Text), 0)
}

// initializer is the word whose embedding is row. Where that token stands in the middle of words only, it is any other
// word, which is said by alone.
func initializer(t *testing.T, p *diffusers.Pipeline, values nn.Values, row []float32) (word string, alone bool) {
	t.Helper()
	for id := range p.Text.VocabSize {
		if slices.Equal(values["text_encoder."+clip.TokenTable][id*len(row):(id+1)*len(row)], row) {
			word = p.Tokenizer.Decode([]int32{int32(id)})
			if slices.Equal(p.Tokenizer.Encode(word), []int32{int32(id)}) {
				return word, true
			}
			return "a", false
		}
	}
	t.Fatal("no token has the embedding that the golden starts from")
	return "", false
}
