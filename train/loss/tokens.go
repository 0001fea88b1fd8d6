package loss

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/sd"
)

// Token is a new token whose embeddings are learned (Gal et al. 2022, arXiv:2208.01618).
type Token struct {
	Text        string `json:"placeholder_token"` // what captions have in its place
	Vectors     int    `json:"num_vectors"`       // embeddings that it stands for
	Initializer string `json:"initializer_token"` // the word whose embedding each of them starts from
}

// tokenRows is the number of rows that tokens add to a table of embeddings.
func tokenRows(tokens []Token) int {
	n := 0
	for _, token := range tokens {
		n += token.Vectors
	}
	return n
}

// TokenPlace is where the embeddings of token i stand in a run's trees: what is below it are the tensors of its file.
func TokenPlace(i int) string { return fmt.Sprintf("learned_embeds.%d", i) }

// tokenKey is the key of a token's embeddings for one of the text encoders: in the file the token itself or, in SDXL,
// the names that its files have.
func tokenKey(tokens []Token, i, side, sides int) string {
	name := tokens[i].Text
	if sides > 1 {
		name = []string{"clip_l", "clip_g"}[side]
	}
	return TokenPlace(i) + "." + name
}

// TokenTree lists the new embeddings: float32 [vectors, hidden_size] of each token and text encoder.
func TokenTree(tokens []Token, encoders []sd.Encoder) nn.Tree {
	var tree nn.Tree
	for i, token := range tokens {
		for side, e := range encoders {
			tree = append(tree, nn.Spec{
				Key: tokenKey(tokens, i, side, len(encoders)), Shape: []int{token.Vectors, e.Config.HiddenSize},
				Kind: nn.Table, Init: nn.InitNormal,
			})
		}
	}
	return tree
}

// TokenRows are the new embeddings of each text encoder.
func (d Diffusion) TokenRows() sd.TokenRows {
	rows, encoders := sd.TokenRows{}, d.TextEncoders()
	for i, spec := range TokenTree(d.Tokens, encoders) { // of each token, one for each encoder
		name := encoders[i%len(encoders)].Name
		rows[name] = append(rows[name], spec)
	}
	return rows
}

// CheckPrompts fails if no prompt of validation has a token: its images would be the same every time.
func CheckPrompts(tokens []Token, prompts []string) error {
	var texts []string
	for _, token := range tokens {
		texts = append(texts, token.Text)
		if slices.ContainsFunc(prompts, func(prompt string) bool { return strings.Contains(prompt, token.Text) }) {
			return nil
		}
	}
	if len(prompts) == 0 {
		return nil
	}
	return fmt.Errorf("validation_prompt: none has %s, so that the images would be the same every time",
		strings.Join(texts, " or "))
}

// CheckTokens reports every token that cannot be learned.
func CheckTokens(tokens []Token, model *diffusers.Pipeline) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(tokens) == 0 {
		bad("placeholder_token: name a token to learn")
	}
	for _, token := range tokens {
		if most := model.Tokenizer.MaxLength() - 2; token.Vectors < 1 || token.Vectors > most {
			bad("num_vectors: got %d, want 1 to %d, which is what a prompt holds between its start and its end",
				token.Vectors, most)
		}
		if strings.Contains(token.Text, ".") {
			bad("placeholder_token: %q has a dot, which files of textual inversions cannot have", token.Text)
		}
		for _, tokenizer := range tokenizers(model) {
			if ids := (*tokenizer).Encode(token.Initializer); len(ids) != 1 {
				bad("initializer_token: %q is %d tokens, want one", token.Initializer, len(ids))
				break
			}
		}
	}
	if want := model.Text.VocabSize; model.Tokenizer.VocabSize() != want {
		bad("the tokenizer has %d tokens, the text encoder's embedding %d rows: want the same to add one",
			model.Tokenizer.VocabSize(), want)
	}
	return errors.Join(errs...)
}

func tokenizers(model *diffusers.Pipeline) []**clip.Tokenizer {
	return []**clip.Tokenizer{&model.Tokenizer, &model.Tokenizer2}[:len(model.TextEncoders())]
}

// AddTokens adds the tokens to the model's tokenizers and to the configs of its text encoders, and returns the
// embeddings that they start from: those of their initializers in weights.
func AddTokens(tokens []Token, model *diffusers.Pipeline, weights nn.Source) (nn.Values, error) {
	var placeholders []clip.Placeholder
	for _, token := range tokens {
		placeholders = append(placeholders, clip.Placeholder{Text: token.Text, Vectors: token.Vectors})
	}
	start := nn.Values{}
	configs := []*clip.Config{&model.Text, model.Text2}[:len(model.TextEncoders())]
	for side, tokenizer := range tokenizers(model) {
		config := configs[side]
		name := []string{diffusers.TextEncoder, diffusers.TextEncoder2}[side] + "." + clip.TokenTable
		values, err := checkpoint.Collect(weights,
			nn.Tree{{Key: name, Shape: []int{config.VocabSize, config.HiddenSize}}})
		if err != nil {
			return nil, err
		}
		table := values[name]
		for i, token := range tokens {
			id := int((*tokenizer).Encode(token.Initializer)[0])
			row := table[id*config.HiddenSize : (id+1)*config.HiddenSize]
			start[tokenKey(tokens, i, side, len(configs))] = slices.Repeat(row, token.Vectors)
		}
		added, _, err := (*tokenizer).AddTokens(placeholders...)
		if err != nil {
			return nil, fmt.Errorf("placeholder_token: %w", err)
		}
		*tokenizer = added
		config.VocabSize += tokenRows(tokens)
	}
	return start, nil
}

// TokenFile is the file name of token i: diffusers' where there is one token.
func TokenFile(tokens []Token, i int) string {
	if len(tokens) == 1 {
		return "learned_embeds.safetensors"
	}
	return fmt.Sprintf("learned_embeds-%d.safetensors", i+1)
}

// SaveTokens writes a file for each token, which limner sample --textual_inversion reads.
func SaveTokens(dir string, d Diffusion, trained nn.Values) error {
	tree := TokenTree(d.Tokens, d.TextEncoders())
	for i := range d.Tokens {
		place := TokenPlace(i)
		err := checkpoint.SaveEmbedding(dir, TokenFile(d.Tokens, i), d.Tokens[i].Text, tree.Within(place),
			trained.Within(place))
		if err != nil {
			return err
		}
	}
	return nil
}
