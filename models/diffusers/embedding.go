package diffusers

import (
	"cmp"
	"errors"
	"fmt"

	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/nn"
)

// textSide is one text encoder of a pipeline with its tokenizer.
type textSide struct {
	component string
	config    *clip.Config
	tokenizer **clip.Tokenizer
}

func (p *Pipeline) textSides() []textSide {
	sides := []textSide{{TextEncoder, &p.Text, &p.Tokenizer}}
	if p.XL() {
		sides = append(sides, textSide{TextEncoder2, p.Text2, &p.Tokenizer2})
	}
	return sides
}

// inversion is a textual inversion that was added: its token, and the id of its first vector for the first tokenizer.
type inversion struct {
	token string
	id    int32
}

// UnusedTokens lists the added tokens that stand in none of the texts, so that they change nothing.
func (p *Pipeline) UnusedTokens(texts []string) []string {
	used := map[int32]bool{}
	if len(p.inversions) > 0 {
		for _, text := range texts {
			for _, id := range p.Tokenizer.Encode(text) {
				used[id] = true
			}
		}
	}
	var unused []string
	for _, added := range p.inversions {
		if !used[added.id] {
			unused = append(unused, added.token)
		}
	}
	return unused
}

// longestToken bounds what stands for a textual inversion in prompts, in bytes.
const longestToken = 512

// AddEmbedding teaches the pipeline a textual inversion (Gal et al. 2022, arXiv:2208.01618): its tokenizers know the
// token from then on, and Weights and Load give its vectors with the text encoders' token embeddings. A token that is
// not given is the one that the file names or, of A1111's files, the file's name.
func (p *Pipeline) AddEmbedding(path, token string) error {
	c, err := checkpoint.OpenFile(path)
	if err != nil {
		return err
	}
	e, err := c.Embedding()
	if err == nil {
		e.Token = cmp.Or(token, e.Token)
		err = p.addEmbedding(e)
	}
	if err != nil {
		err = fmt.Errorf("textual inversion %s: %w", path, err)
	}
	return errors.Join(err, c.Close())
}

func (p *Pipeline) addEmbedding(e checkpoint.Embedding) error {
	v, err := p.vectorsOf(e)
	if err != nil {
		return err
	}
	return p.addVectors(v)
}

// vectors are a textual inversion's in memory.
type vectors struct {
	token string
	rows  map[string][]float32 // by text encoder
}

// vectorsOf reads a textual inversion. It fails unless there are vectors of the width of each text encoder.
func (p *Pipeline) vectorsOf(e checkpoint.Embedding) (vectors, error) {
	v := vectors{e.Token, map[string][]float32{}}
	for _, side := range p.textSides() {
		t, err := e.Vectors(side.component)
		if err != nil {
			return v, err
		}
		if got, width := t.Shape[len(t.Shape)-1], side.config.HiddenSize; got != width {
			return v, fmt.Errorf("its vectors are %d wide, the %s's embeddings %d: "+
				"it was made for another family of models", got, side.component, width)
		}
		if v.rows[side.component], err = t.Float32s(); err != nil {
			return v, err
		}
	}
	return v, nil
}

// addVectors teaches all tokenizers the token, or none of them.
func (p *Pipeline) addVectors(v vectors) error {
	if len(v.token) > longestToken {
		return fmt.Errorf("its token has %d bytes, want %d at most: give another as TOKEN=FILE",
			len(v.token), longestToken)
	}
	sides := p.textSides()
	tokenizers := make([]*clip.Tokenizer, len(sides))
	for i, side := range sides {
		if have, want := (*side.tokenizer).VocabSize(), side.config.VocabSize; have != want {
			return fmt.Errorf("the tokenizer of the %s has %d tokens, its embedding %d rows: want the same to add one",
				side.component, have, want)
		}
		count := len(v.rows[side.component]) / side.config.HiddenSize
		var err error
		if tokenizers[i], _, err = (*side.tokenizer).AddTokens(clip.Placeholder{
			Text: v.token, Vectors: count,
		}); err != nil {
			return err
		}
	}
	p.inversions = append(p.inversions, inversion{v.token, int32(p.Text.VocabSize)})
	if p.added == nil {
		p.added = map[string][]float32{}
	}
	for i, side := range sides {
		rows := v.rows[side.component]
		*side.tokenizer = tokenizers[i]
		side.config.VocabSize += len(rows) / side.config.HiddenSize
		p.added[side.component] = append(p.added[side.component], rows...)
	}
	return nil
}

// fileTree lists a component's parameters as its file has them: without the rows of added tokens.
func (p *Pipeline) fileTree(component string) nn.Tree {
	tree := p.Tree(component)
	rows := p.added[component]
	if len(rows) == 0 {
		return tree
	}
	for i, s := range tree {
		if s.Key == clip.TokenTable {
			tree[i].Shape = []int{s.Shape[0] - len(rows)/s.Shape[1], s.Shape[1]}
		}
	}
	return tree
}
