package diffusers_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
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
)

// The golden's token gets the id behind the vocabulary's. Its embedding is pooled where the config's eos_token_id is 2.
func TestGoldenTextualInversion(t *testing.T) {
	p, err := diffusers.Open(golden.Path(t, "sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	before := p.Tokenizer.Encode("a photo of a circle")
	if err := p.AddEmbedding(golden.Path(t, "train", "learned_embeds.safetensors"), ""); err != nil {
		t.Fatal(err)
	}
	g := parity.Open(t, "train", "textual_inversion.safetensors")
	ids := g.Get("input_ids")
	learned := parity.Open(t, "train", "learned_embeds.safetensors").Keys()[0]
	for row := range slices.Chunk(ids.Data, ids.Shape[1]) {
		want := make([]int32, len(row))
		for i, id := range row {
			want[i] = int32(id)
		}
		prompt := promptOf(p.Tokenizer, learned, want)
		if got, _ := p.Tokenizer.EncodePadded(prompt); !slices.Equal(got, want) || !strings.Contains(prompt, learned) {
			t.Errorf("%q: got ids %v, want %v", prompt, got, want)
		}
	}
	if after := p.Tokenizer.Encode("a photo of a circle"); !slices.Equal(before, after) {
		t.Errorf("other prompts: got %v, want %v", after, before)
	}
	values, err := p.Load(diffusers.TextEncoder)
	if err != nil {
		t.Fatal(err)
	}
	w, err := p.Weights(diffusers.TextEncoder)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	tree := p.Text.Tree()
	err = w.Stream(tree.Under(diffusers.TextEncoder), "F32", func(spec nn.Spec, write func(to []byte) error) error {
		data, want := make([]byte, 4*spec.Size()), values[spec.Key]
		if err := write(data); err != nil {
			return err
		}
		if encoded, err := safetensors.Encode(want, "F32"); err != nil || !bytes.Equal(data, encoded) {
			t.Errorf("%s: what is streamed for %v is not what is loaded (%v)", spec.Key, spec.Shape, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	model := parity.Model{Tree: tree, Values: values.Within(diffusers.TextEncoder)}
	out := parity.Run(t, model, []parity.Tensor{ids}, func(params nn.Params, in []*Node, out map[string]*Node) {
		out["pooled_after"] = p.Text.Forward(params, ConvertDType(in[0], dtypes.Int32), dtypes.Float32).Pooled
	})
	parity.Check(t, "pooled_after", out["pooled_after"], g.Get("pooled_after"), 1e-5)
}

// promptOf is the text that has these ids. That of the learned token is the vocabulary's last.
func promptOf(tokenizer *clip.Tokenizer, learned string, ids []int32) string {
	var prompt []string
	last := int32(tokenizer.VocabSize() - 1)
	for i := slices.Index(ids, last); i >= 0; i = slices.Index(ids, last) {
		prompt = append(prompt, tokenizer.Decode(ids[:i]), learned)
		ids = ids[i+1:]
	}
	return strings.TrimSpace(strings.Join(append(prompt, tokenizer.Decode(ids)), " "))
}

func TestTextualInversionFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, tensors map[string][]int) string {
		path := filepath.Join(dir, name)
		var entries []safetensors.Entry
		for key, shape := range tensors {
			n := 1
			for _, d := range shape {
				n *= d
			}
			entries = append(entries, safetensors.Entry{
				Key: key, DType: "F32", Shape: shape, Float32s: func() ([]float32, error) {
					return make([]float32, n), nil
				},
			})
		}
		if err := safetensors.Write(path, entries, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		model, token, want string
		tensors            map[string][]int
	}{
		"a1111.safetensors": {model: "sd15-tiny", tensors: map[string][]int{"emb_params": {3, 32}}},
		"xl.safetensors":    {model: "sdxl-tiny", tensors: map[string][]int{"clip_l": {2, 16}, "clip_g": {2, 24}}},
		"older.safetensors": {
			model: "sdxl-tiny", tensors: map[string][]int{"text_encoders_0": {2, 16}, "text_encoders_1": {2, 24}},
		},
		"enc0.safetensors": {model: "sd15-tiny", tensors: map[string][]int{"text_encoders_0": {2, 32}}},
		"part.safetensors": {
			model: "sdxl-tiny", tensors: map[string][]int{"clip_g": {2, 24}, "text_encoders_1": {2, 24}},
			want: "it has no clip_l for the text_encoder, only clip_g, text_encoders_1",
		},
		"named.safetensors": {model: "sd15-tiny", token: "<mine>", tensors: map[string][]int{"<theirs>": {32}}},
		"wide.safetensors": {
			model: "sd15-tiny", tensors: map[string][]int{"emb_params": {1, 24}},
			want: "vectors are 24 wide, the text_encoder's embeddings 32",
		},
		"single.safetensors": {
			model: "sdxl-tiny", tensors: map[string][]int{"emb_params": {1, 16}},
			want: "vectors are 16 wide, the text_encoder_2's embeddings 24",
		},
		"space.safetensors": {
			model: "sd15-tiny", token: "two words", tensors: map[string][]int{"emb_params": {1, 32}},
			want: "white space",
		},
		"twice.safetensors": {
			model: "sd15-tiny", token: "circle</w>", tensors: map[string][]int{"emb_params": {1, 32}},
			want: "already has",
		},
	} {
		p, err := diffusers.Open(golden.Path(t, c.model))
		if err != nil {
			t.Fatal(err)
		}
		size := p.Text.VocabSize
		err = p.AddEmbedding(write(name, c.tensors), c.token)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || p.Text.VocabSize != size {
				t.Errorf("%s: got %v, want %q; vocabulary %d, was %d", name, err, c.want, p.Text.VocabSize, size)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		token := c.token
		if token == "" {
			token = strings.TrimSuffix(name, ".safetensors")
		}
		if got, want := p.Tokenizer.Encode(token), p.Text.VocabSize-size; len(got) != want || int(got[0]) != size {
			t.Errorf("%s: %q became %v, want %d ids from %d on", name, token, got, want, size)
		}
	}
	p, err := diffusers.Open(golden.Path(t, "sd15-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AddEmbedding(golden.Path(t, "train", "lora", "kohya.safetensors"), ""); err == nil ||
		!strings.Contains(err.Error(), "no textual inversion but: LoRA") {
		t.Errorf("a LoRA: got %v", err)
	}
}

// A file of SDXL has no key for its token, so its metadata holds it.
func TestTextualInversionKeepsItsToken(t *testing.T) {
	dir := t.TempDir()
	tree := nn.Tree{
		{Key: "clip_l", Shape: []int{2, 16}, Kind: nn.Table}, {Key: "clip_g", Shape: []int{2, 24}, Kind: nn.Table},
	}
	for token, want := range map[string]string{"<Cat>": "", strings.Repeat("a", 600): "its token has 600 bytes"} {
		if err := checkpoint.SaveEmbedding(dir, "learned.safetensors", token, tree,
			nn.InitValues(tree, 1)); err != nil {
			t.Fatal(err)
		}
		p, err := diffusers.Open(golden.Path(t, "sdxl-tiny"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "learned.safetensors")
		if err := p.AddEmbedding(path, ""); (err == nil) != (want == "") ||
			err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("%.8s: got %v, want %q", token, err, want)
		}
		if want != "" {
			continue
		}
		if err := p.AddEmbedding(path, "<other>"); err != nil {
			t.Fatal(err)
		}
		for text, want := range map[string][]string{
			"a photo of a cat": {"<Cat>", "<other>"}, "(<cat>:1.2), sharp": {"<other>"}, "<CAT> BREAK <other>": nil,
			"learned": {"<Cat>", "<other>"},
		} {
			if got := p.UnusedTokens([]string{"", text}); !slices.Equal(got, want) {
				t.Errorf("%q: got %v unused, want %v", text, got, want)
			}
		}
	}
}

// The tokens of textual inversions in a LoRA's file are known where the LoRA is applied, and stay in a model that it is
// added to.
func TestLoRAWithTokens(t *testing.T) {
	base := golden.Path(t, "sdxl-tiny")
	p, err := diffusers.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	ones := func(key string, shape ...int) safetensors.Entry {
		data := slices.Repeat([]float32{1}, nn.Spec{Shape: shape}.Size())
		return safetensors.Entry{
			Key: key, DType: "F32", Shape: shape, Float32s: func() ([]float32, error) { return data, nil },
		}
	}
	const module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
	width := p.UNet.BlockOutChannels[len(p.UNet.BlockOutChannels)-1]
	write := func(name string, more ...safetensors.Entry) string {
		path := filepath.Join(t.TempDir(), name)
		entries := append(more, ones(module+".lora_down.weight", 2, width), ones(module+".lora_up.weight", width, 2))
		if err := safetensors.Write(path, entries, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("cat.safetensors", ones("bundle_emb.<cat>.clip_l", 2, 16), ones("bundle_emb.<cat>.clip_g", 2, 24))
	l, err := p.OpenLoRA(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	size := p.Text.VocabSize
	if l.Path != path || !slices.Equal(l.Tokens(), []string{"<cat>"}) || len(p.Tokenizer.Encode("<cat>")) == 2 {
		t.Errorf("got %s with %q", l.Path, l.Tokens())
	}
	if err := p.AddLoRATokens(l); err != nil {
		t.Fatal(err)
	}
	check := func(p *diffusers.Pipeline) {
		t.Helper()
		want := []int32{int32(size), int32(size + 1)}
		if got := p.Tokenizer.Encode("<cat>"); !slices.Equal(got, want) || p.Text.VocabSize != size+2 ||
			p.Text2.VocabSize != size+2 {
			t.Errorf("got %v of %d and %d tokens, want %v", got, p.Text.VocabSize, p.Text2.VocabSize, want)
		}
		values, err := p.Load(diffusers.TextEncoder2)
		if err != nil {
			t.Fatal(err)
		}
		table := values["text_encoder_2.text_model.embeddings.token_embedding.weight"]
		if last := table[len(table)-2*24:]; !slices.Equal(last, slices.Repeat([]float32{1}, 2*24)) {
			t.Errorf("the last rows are %v", last)
		}
	}
	check(p)
	if p, err = diffusers.Open(base); err != nil {
		t.Fatal(err)
	}
	fused := t.TempDir()
	if err := p.SaveFused(fused, []string{path}, []float64{1}, ""); err != nil {
		t.Fatal(err)
	}
	if p, err = diffusers.Open(fused); err != nil {
		t.Fatal(err)
	}
	check(p)
	want := `its textual inversion "<cat>": its vectors are 32 wide, the text_encoder's embeddings 16: it was made for another family`
	if _, err := p.OpenLoRA(write("other.safetensors", ones("bundle_emb.<cat>.emb_params", 1, 32))); err == nil ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
