package sd_test

import (
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/models/nn"
)

// openGolden opens a model among the goldens, with the weights of components.
func openGolden(t *testing.T, family string, components ...string) (*diffusers.Pipeline, parity.Model) {
	t.Helper()
	p, err := diffusers.Open(golden.Path(t, family))
	if err != nil {
		t.Fatal(err)
	}
	values, err := p.Load(components...)
	if err != nil {
		t.Fatal(err)
	}
	var tree nn.Tree
	for _, component := range components {
		tree = append(tree, p.Tree(component).Under(component)...)
	}
	return p, parity.Model{Tree: tree, Values: values}
}

// Goldens: the prompt embeddings of diffusers' pipelines.
func TestGoldenTextEmbeddings(t *testing.T) {
	var index struct {
		Prompt []string `json:"prompt"`
	}
	golden.ReadJSON(t, &index, "pipelines", "index.json")
	if len(index.Prompt) == 0 {
		t.Fatal("no prompts")
	}
	for family, file := range map[string]string{"sd15-tiny": "txt2img.safetensors", "sdxl-tiny": "sdxl.safetensors"} {
		encoders := []string{diffusers.TextEncoder}
		if family == "sdxl-tiny" {
			encoders = append(encoders, diffusers.TextEncoder2)
		}
		p, model := openGolden(t, family, encoders...)
		var inputs []parity.Tensor
		for _, tokenizer := range p.Tokenizers() {
			ids := parity.Tensor{Shape: []int{len(index.Prompt), tokenizer.MaxLength()}}
			for _, prompt := range index.Prompt {
				row, _ := tokenizer.EncodePadded(prompt)
				for _, id := range row {
					ids.Data = append(ids.Data, float32(id))
				}
			}
			inputs = append(inputs, ids)
		}
		got := parity.Run(t, model, inputs, func(params nn.Params, in []*Node, out map[string]*Node) {
			var ids []*Node
			for _, x := range in {
				ids = append(ids, ConvertDType(x, dtypes.Int32))
			}
			hidden, pooled := p.EncodeText(params, ids, 0, dtypes.Float32)
			out["prompt_embeds"] = Concatenate(hidden, -1)
			if pooled != nil {
				out["pooled_prompt_embeds"] = pooled
			}
		})
		g := parity.Open(t, "pipelines", file)
		if len(got) != len(encoders) {
			t.Errorf("%s: %d embeddings of %d text encoders", family, len(got), len(encoders))
		}
		for name, x := range got {
			parity.Check(t, family+" "+name, x, g.Get(name), 1e-5)
		}
	}
}
