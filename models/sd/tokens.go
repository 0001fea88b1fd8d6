package sd

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/clip"
	"limner/models/nn"
)

// TokenRows are the embeddings of new tokens (Gal et al. 2022, arXiv:2208.01618) as parameters of their own, [rows,
// hidden_size] each, by the text encoder's name. The configs of the text encoders count them in vocab_size.
type TokenRows map[string]nn.Tree

// Tree lists a text encoder's parameters, its table of token embeddings without the new rows.
func (r TokenRows) Tree(e Encoder) nn.Tree {
	e.Config.VocabSize -= r.count(e)
	return e.Config.Tree().Under(e.Name)
}

// count is the number of new rows of a text encoder.
func (r TokenRows) count(e Encoder) int {
	n := 0
	for _, spec := range r[e.Name] {
		n += spec.Shape[0]
	}
	return n
}

// WithTokens returns p, which is at the root, with the new rows behind those of each text encoder's table, all in
// dtype. Where one of them is trained, the others have no gradient.
func (n Networks) WithTokens(p nn.Params, rows TokenRows, dtype dtypes.DType) nn.Params {
	var tables nn.Tree
	var nodes []*Node
	for _, e := range n.TextEncoders() {
		if len(rows[e.Name]) == 0 {
			continue
		}
		own, width := e.Config.VocabSize-rows.count(e), e.Config.HiddenSize
		table := p.In(e.Name).Param(clip.TokenTable, nn.Table, nn.InitNormal, 0, own, width)
		parts := []*Node{ConvertDType(table, dtype)}
		for _, spec := range rows[e.Name] {
			parts = append(parts, ConvertDType(p.Get(spec), dtype))
		}
		key := e.Name + "." + clip.TokenTable
		tables = append(tables, nn.Spec{Key: key, Shape: []int{e.Config.VocabSize, width}})
		nodes = append(nodes, Concatenate(parts, 0))
	}
	return nn.Join(nn.Bind(tables, nodes), p)
}
