package train

import (
	"math/rand/v2"
	"slices"
	"strings"

	"limner/data"
)

// templates are captions for the images that tokens are learned from; {} is where the tokens stand.
var templates = map[string][]string{
	PropertyObject: {
		"a photo of {}", "a picture of {}", "an image of {}", "{}", "a clear photo of {}", "a close view of {}",
		"a bright photo of {}", "a dark photo of {}", "a photo of one {}", "a photo of the {}",
		"a cropped picture of {}", "a sharp picture of the {}", "a drawing of {}", "a snapshot of my {}",
		"a large picture of {}", "a small picture of {}", "{} seen from the front", "a fine photo of {}",
	},
	PropertyStyle: {
		"a painting in the style of {}", "a picture in the style of {}", "a drawing in the style of {}",
		"an image made in the manner of {}", "a scene in the style of {}", "a work in the style of {}",
		"a dark picture in the style of {}", "a bright picture in the style of {}",
		"a small painting in the style of {}", "a large painting in the style of {}", "a detail in the style of {}",
		"something in the style of {}",
	},
}

// templateStream tells the choice of captions from other draws of the same seed.
const templateStream = 0x74656d706c617465

// caption gives the caption of row i of a batch: the dataset's, the one prompt of all instances and, of the rows behind
// them, of the class, or one around the new tokens that follows from the seed, the epoch and the row.
func (r Recipe) caption(o Options) func(batch *data.Batch, i int) string {
	var tokens []string
	for _, token := range r.Tokens {
		tokens = append(tokens, token.Text)
	}
	text := strings.Join(tokens, " ")
	return func(batch *data.Batch, i int) string {
		switch captions := templates[r.Property]; {
		case r.Prior != nil && i >= len(batch.Rows)/2:
			return r.Prior.Prompt
		case r.InstancePrompt != "":
			return r.InstancePrompt
		case captions != nil:
			rng := rand.New(rand.NewPCG(o.Seed^templateStream, uint64(batch.Epoch)<<40^uint64(batch.Rows[i])))
			return strings.ReplaceAll(captions[rng.IntN(len(captions))], "{}", text)
		case len(tokens) == 0:
			return batch.Captions[i]
		}
		caption := strings.ReplaceAll(batch.Captions[i], "{}", text)
		if !slices.ContainsFunc(tokens, func(token string) bool { return strings.Contains(caption, token) }) {
			caption = strings.TrimPrefix(caption+", "+text, ", ")
		}
		return caption
	}
}
