// Package clip holds the text side of Stable Diffusion: CLIP's tokenizer and text encoder.
package clip

import (
	"errors"
	"fmt"
	"slices"

	"limner/models/nn"
)

// Config is the config.json of a CLIPTextModel or a CLIPTextModelWithProjection.
type Config struct {
	Architectures         []string `json:"architectures"`
	ModelType             string   `json:"model_type"`
	VocabSize             int      `json:"vocab_size"`
	HiddenSize            int      `json:"hidden_size"`
	IntermediateSize      int      `json:"intermediate_size"`
	NumHiddenLayers       int      `json:"num_hidden_layers"`
	NumAttentionHeads     int      `json:"num_attention_heads"`
	MaxPositionEmbeddings int      `json:"max_position_embeddings"`
	HiddenAct             string   `json:"hidden_act"`
	LayerNormEps          float64  `json:"layer_norm_eps"`
	BOSTokenID            int      `json:"bos_token_id"`
	EOSTokenID            int      `json:"eos_token_id"`
	PadTokenID            int      `json:"pad_token_id"`
	AttentionDropout      float64  `json:"attention_dropout,omitempty"` // when training: unsupported
	ProjectionDim         int      `json:"projection_dim"`              // of CLIPTextModelWithProjection alone
}

// The limits of a config or a tokenizer; see nn.MostChannels.
const (
	mostTokens    = 1 << 22
	mostPositions = 1 << 14
)

// WithProjection is the architecture whose pooled output goes through one more matrix.
const WithProjection = "CLIPTextModelWithProjection"

// Projects says whether the network has a text_projection.
func (c Config) Projects() bool { return slices.Contains(c.Architectures, WithProjection) }

var fixed = nn.Fixed{"model_type": {`"clip_text_model"`}, "pruned_heads": {"{}"}}

// Own are fields of the class that do not change the graph: initialisation, how the weights are stored, the library's
// version.
var Own = []string{"dtype", "torch_dtype", "initializer_factor", "initializer_range", "transformers_version", "dropout"}

// ofBase are fields that older versions of transformers wrote of its base class into every config: outputs, and the
// generation of text.
var ofBase = []string{
	"return_dict", "use_return_dict", "output_hidden_states", "output_attentions", "output_scores", "torchscript",
	"use_bfloat16", "tf_legacy_loss", "tie_word_embeddings", "tie_encoder_decoder", "chunk_size_feed_forward",
	"is_encoder_decoder", "is_decoder", "add_cross_attention", "cross_attention_hidden_size", "max_length",
	"min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature",
	"top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
	"encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "return_dict_in_generate",
	"forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
	"suppress_tokens", "begin_suppress_tokens", "finetuning_task", "id2label", "label2id", "tokenizer_class", "prefix",
	"sep_token_id", "decoder_start_token_id", "task_specific_params", "problem_type",
}

// Default holds the values that transformers gives to fields that a file leaves out.
func Default() Config {
	return Config{
		Architectures: []string{"CLIPTextModel"}, ModelType: "clip_text_model", VocabSize: 49408, HiddenSize: 512,
		IntermediateSize: 2048, NumHiddenLayers: 12, NumAttentionHeads: 8, MaxPositionEmbeddings: 77,
		HiddenAct: "quick_gelu", LayerNormEps: 1e-5, BOSTokenID: 49406, EOSTokenID: 49407,
		PadTokenID: 1, ProjectionDim: 512,
	}
}

// ParseConfig decodes and checks a config.json.
func ParseConfig(raw []byte) (Config, error) {
	c := Default()
	if err := nn.DecodeConfig(raw, &c, fixed, slices.Concat(Own, ofBase)...); err != nil {
		return Config{}, err
	}
	for i, name := range c.Architectures {
		c.Architectures[i] = nn.PyTorchClass(name)
	}
	return c, c.Validate()
}

// Validate reports every field whose value cannot be built.
func (c Config) Validate() error {
	var errs []error
	errs = append(errs, nn.OutOfRange(
		nn.Count{Field: "vocab_size", Value: c.VocabSize, Most: mostTokens},
		nn.Count{Field: "hidden_size", Value: c.HiddenSize, Most: nn.MostChannels},
		nn.Count{Field: "intermediate_size", Value: c.IntermediateSize, Most: 8 * nn.MostChannels},
		nn.Count{Field: "num_hidden_layers", Value: c.NumHiddenLayers, Most: nn.MostLayers},
		nn.Count{Field: "num_attention_heads", Value: c.NumAttentionHeads, Most: nn.MostChannels},
		nn.Count{Field: "max_position_embeddings", Value: c.MaxPositionEmbeddings, Most: mostPositions},
		nn.Count{Field: "projection_dim", Value: c.ProjectionDim, Most: nn.MostChannels},
	)...)
	if c.NumAttentionHeads > 0 && c.HiddenSize%c.NumAttentionHeads != 0 {
		errs = append(errs, fmt.Errorf("num_attention_heads: %d channels do not divide over %d heads",
			c.HiddenSize, c.NumAttentionHeads))
	}
	for _, id := range []nn.Count{
		{Field: "bos_token_id", Value: c.BOSTokenID}, {Field: "eos_token_id", Value: c.EOSTokenID},
		{Field: "pad_token_id", Value: c.PadTokenID},
	} {
		if id.Value < -1 || id.Value >= mostTokens {
			errs = append(errs, fmt.Errorf("%s: got %d, want -1 to %d", id.Field, id.Value, mostTokens-1))
		}
	}
	if !(c.LayerNormEps >= 0 && c.LayerNormEps <= 1) {
		errs = append(errs, fmt.Errorf("layer_norm_eps: got %g, want 0 to 1", c.LayerNormEps))
	}
	if !(c.AttentionDropout >= 0 && c.AttentionDropout < 1) {
		errs = append(errs, fmt.Errorf("attention_dropout: got %g, want at least 0 and below 1", c.AttentionDropout))
	}
	if c.HiddenAct != "quick_gelu" && c.HiddenAct != "gelu" {
		errs = append(errs, fmt.Errorf("hidden_act: got %q, supported: quick_gelu, gelu", c.HiddenAct))
	}
	return errors.Join(errs...)
}
