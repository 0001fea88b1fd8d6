package diffusers

import (
	"errors"
	"fmt"
	"strings"

	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/nn"
)

// tokenTable is the key of a text encoder's token embeddings.
const tokenTable = "text_model.embeddings.token_embedding.weight"

// textSide is one text encoder of a pipeline with its tokenizer.
type textSide struct {
	component string
	config    *clip.Config
	tokenizer **clip.Tokenizer
}

func (p *Pipeline) textSides() []textSide {
	sides := []textSide{{TextEncoder, &p.Text, &p.Tokenizer}}
	if p.XL != nil {
		sides = append(sides, textSide{TextEncoder2, &p.XL.Text, &p.XL.Tokenizer})
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

// AddEmbedding teaches the pipeline a textual inversion (Gal et al. 2022, arXiv:2208.01618): its tokenizers know the token from
// then on, and Weights and Load give its vectors with the text encoders' token embeddings. A token that is not given is the one
// that the file names or, of A1111's files, the file's name.
func (p *Pipeline) AddEmbedding(path, token string) error {
	c, err := checkpoint.OpenFile(path)
	if err != nil {
		return err
	}
	err = p.addEmbedding(c, token)
	if err != nil {
		err = fmt.Errorf("textual inversion %s: %w", path, err)
	}
	return errors.Join(err, c.Close())
}

func (p *Pipeline) addEmbedding(c *checkpoint.Checkpoint, token string) error {
	if c.Kind != checkpoint.KindEmbedding {
		return fmt.Errorf("it holds no textual inversion but: %s", c.Kind)
	}
	if token == "" {
		token = c.Token()
	}
	if len(token) > longestToken {
		return fmt.Errorf("its token has %d bytes, want %d at most: give another as TOKEN=FILE", len(token), longestToken)
	}
	type change struct {
		side      textSide
		tokenizer *clip.Tokenizer
		rows      []float32
	}
	var changes []change
	for _, side := range p.textSides() {
		width := side.config.HiddenSize
		rows, err := vectorsFor(c, side.component, width)
		if err != nil {
			return err
		}
		if have, want := (*side.tokenizer).VocabSize(), side.config.VocabSize; have != want {
			return fmt.Errorf("the tokenizer of the %s has %d tokens, its embedding %d rows: want the same to add one", side.component, have, want)
		}
		tokenizer, _, err := (*side.tokenizer).AddTokens(clip.Placeholder{Text: token, Vectors: len(rows) / width})
		if err != nil {
			return err
		}
		changes = append(changes, change{side, tokenizer, rows})
	}
	p.inversions = append(p.inversions, inversion{token, int32(p.Text.VocabSize)})
	if p.added == nil {
		p.added = map[string][]float32{}
	}
	for _, change := range changes {
		*change.side.tokenizer = change.tokenizer
		change.side.config.VocabSize += len(change.rows) / change.side.config.HiddenSize
		p.added[change.side.component] = append(p.added[change.side.component], change.rows...)
	}
	return nil
}

// vectorsFor finds the vectors of a text encoder of the given width: the file's only tensor, or in SDXL's files the one that
// its encoders' old names stand for.
func vectorsFor(c *checkpoint.Checkpoint, component string, width int) ([]float32, error) {
	keys := c.Keys()
	key := keys[0]
	if len(keys) > 1 {
		key = map[string]string{TextEncoder: "clip_l", TextEncoder2: "clip_g"}[component]
	}
	t, ok := c.Tensor(key)
	if !ok {
		return nil, fmt.Errorf("it has no %s for the %s, only %s", key, component, strings.Join(keys, ", "))
	}
	if got := t.Shape[len(t.Shape)-1]; got != width {
		return nil, fmt.Errorf("its vectors are %d wide, the %s's embeddings %d: it was made for another family of models", got, component, width)
	}
	return t.Float32s()
}

// fileTree lists a component's parameters as its file has them: without the rows of added tokens.
func (p *Pipeline) fileTree(component string) nn.Tree {
	tree := p.Tree(component)
	rows := p.added[component]
	if len(rows) == 0 {
		return tree
	}
	for i, s := range tree {
		if s.Key == tokenTable {
			tree[i].Shape = []int{s.Shape[0] - len(rows)/s.Shape[1], s.Shape[1]}
		}
	}
	return tree
}
