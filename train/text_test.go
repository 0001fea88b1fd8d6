package train

import (
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/unet"
	"limner/train/loss"
)

// Training tells the UNet what drawing does.
func TestGoldenTextEmbeddings(t *testing.T) {
	var index struct {
		Prompt []string `json:"prompt"`
	}
	golden.ReadJSON(t, &index, "pipelines", "index.json")
	if len(index.Prompt) == 0 {
		t.Fatal("no prompts")
	}
	for family, file := range map[string]string{"sd15-tiny": "txt2img.safetensors", "sdxl-tiny": "sdxl.safetensors"} {
		p, err := diffusers.Open(golden.Path(t, family))
		if err != nil {
			t.Fatal(err)
		}
		d, model := wholeDiffusion(t, family)
		names, tokenizers := []string{loss.InputTokens}, []*clip.Tokenizer{p.Tokenizer}
		if p.XL != nil {
			names, tokenizers = append(names, loss.InputTokens2), append(tokenizers, p.XL.Tokenizer)
		}
		var inputs []parity.Tensor
		for _, tokenizer := range tokenizers {
			ids := parity.Tensor{Shape: []int{len(index.Prompt), tokenizer.MaxLength()}}
			for _, id := range tokenIDs(tokenizer, index.Prompt) {
				ids.Data = append(ids.Data, float32(id))
			}
			inputs = append(inputs, ids)
		}
		got := parity.Run(t, model, inputs, func(params nn.Params, in []*Node, out map[string]*Node) {
			batch := map[string]*Node{loss.InputTimeIDs: Zeros(in[0].Graph(), loss.BatchValue("", dtypes.Float32, len(index.Prompt), unet.TimeIDs).Shape)}
			for i, name := range names {
				batch[name] = ConvertDType(in[i], dtypes.Int32)
			}
			context := d.EncodeText(params, batch)
			out["prompt_embeds"] = context.Text
			if context.Pooled != nil {
				out["pooled_prompt_embeds"] = context.Pooled
			}
		})
		g := parity.Open(t, "pipelines", file)
		if len(got) != len(names) {
			t.Errorf("%s: %d embeddings of %d text encoders", family, len(got), len(names))
		}
		for name, x := range got {
			parity.Check(t, family+" "+name, x, g.Get(name), 1e-5)
		}
	}
}
