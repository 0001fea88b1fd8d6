package checkpoint

import (
	"regexp"
	"slices"
	"strings"

	"limner/models/nn"
)

// loraMarks are the parts of keys that tell a LoRA's dialect.
var loraMarks = []struct {
	mark    string
	dialect Dialect
}{
	{".lora_down.", DialectKohya}, {".lora_up.", DialectKohya},
	{".lora_A.", DialectPEFT}, {".lora_B.", DialectPEFT},
	{".lora.down.", DialectDiffusers}, {".lora.up.", DialectDiffusers}, {"_lora.down.", DialectDiffusers},
	{"_lora.up.", DialectDiffusers}, {".lora_linear_layer.", DialectDiffusers},
}

// isLoRA tells whose naming of a LoRA the keys follow, if any.
func isLoRA[T any](tensors map[string]T) Dialect {
	for _, m := range loraMarks {
		for key := range tensors {
			if strings.Contains(key, m.mark) {
				return m.dialect
			}
		}
	}
	return DialectNone
}

// loraRole is what a tensor is to a layer of a LoRA.
type loraRole int

const (
	loraUnknown loraRole = iota
	loraDown
	loraUp
	loraAlpha
)

// loraKey is a key of a LoRA taken apart.
type loraKey struct {
	component string
	module    string // dotted; of kohya's names, what splitting them suggests
	kohya     string // the module as kohya writes it, with underscores
	named     string // the module without a prefix that the file leaves out
	role      loraRole
}

// kohyaPlaces are the beginnings of kohya's names.
var kohyaPlaces = []struct{ prefix, component string }{
	{"lora_unet_", UNet}, {"lora_te1_", TextEncoder}, {"lora_te2_", TextEncoder2}, {"lora_te_", TextEncoder},
}

// loraEndings are the ends of keys and the roles they stand for.
var loraEndings = []struct {
	ending string
	role   loraRole
}{
	{".lora_down.weight", loraDown}, {".lora_up.weight", loraUp},
	{".lora.down.weight", loraDown}, {".lora.up.weight", loraUp},
	{".lora_A.weight", loraDown}, {".lora_B.weight", loraUp},
	{".lora_A.default.weight", loraDown}, {".lora_B.default.weight", loraUp},
	{".lora_linear_layer.down.weight", loraDown}, {".lora_linear_layer.up.weight", loraUp},
	{"_lora.down.weight", loraDown}, {"_lora.up.weight", loraUp},
	{".alpha", loraAlpha},
}

// parseLoRAKey takes a key apart. The role is loraUnknown where it is none of a plain LoRA.
func parseLoRAKey(key string) loraKey {
	for _, e := range loraEndings {
		name, ok := strings.CutSuffix(key, e.ending)
		if !ok || len(key) > maxKey {
			continue
		}
		for _, p := range kohyaPlaces {
			if rest, ok := strings.CutPrefix(name, p.prefix); ok {
				rest = underscored(rest) // some tools write attn1.to_q behind it
				return loraKey{
					component: p.component, module: splitKohya(rest), named: splitKohya(rest),
					kohya: rest, role: e.role,
				}
			}
		}
		k := loraKey{module: strings.TrimPrefix(name, "base_model.model."), role: e.role}
		for _, c := range []string{UNet, TextEncoder, TextEncoder2} {
			if rest, ok := strings.CutPrefix(k.module, c+"."); ok {
				k.component, k.module = c, rest
			}
		}
		if strings.HasPrefix(e.ending, "_lora") {
			k.module = oldProcessor(k.module)
		}
		k.named = k.module
		if k.component == "" {
			k.component = UNet
			if strings.HasPrefix(k.module, textPrefix) || strings.HasPrefix(k.module, "encoder.layers.") {
				k.component = TextEncoder
			}
		}
		if k.component != UNet && !strings.HasPrefix(k.module, textPrefix) && k.module != "text_projection" {
			k.module = textPrefix + k.module
		}
		return k
	}
	return loraKey{}
}

// oldProcessor is today's name of a module whose LoRA was once part of an attention processor:
// attn1.processor.to_q and, in text encoders, self_attn.to_q; to_out is a list today.
func oldProcessor(module string) string {
	parent, leaf := "", module
	if i := strings.LastIndexByte(module, '.'); i >= 0 {
		parent, leaf = module[:i+1], module[i+1:]
	}
	parent = strings.TrimSuffix(parent, "processor.")
	switch {
	case strings.HasSuffix(parent, "self_attn.") && leaf == "to_out":
		leaf = "out_proj"
	case strings.HasSuffix(parent, "self_attn."):
		leaf = strings.TrimPrefix(leaf, "to_") + "_proj"
	case leaf == "to_out":
		leaf = "to_out.0"
	}
	return parent + leaf
}

// kohyaWords are the parts of modules' names that hold underscores themselves.
var kohyaWords = regexp.MustCompile(`^(down_blocks|up_blocks|mid_block|transformer_blocks|input_blocks|output_blocks|middle_block|` +
	`to_[qkv]|to_out|proj_in|proj_out|time_emb_proj|conv_shortcut|conv_in|conv_out|conv_norm_out|time_embedding|add_embedding|linear_[12]|` +
	`in_layers|out_layers|emb_layers|skip_connection|time_embed|label_emb|text_model|text_projection|self_attn|[qkv]_proj|out_proj|[^_]+)(?:_|$)`)

// standardBlocks are the levels of published UNets. What matters here is that each has two residual blocks.
var standardBlocks = blocks{resnets: []int{2, 2, 2, 2}, attention: []bool{true, true, true, true}}

// splitKohya puts the dots back into a module's name that was written with underscores, and LDM's names
// into diffusers'. A tree does so for certain; see LoRA.Check.
func splitKohya(name string) string {
	var parts []string
	for rest := name; rest != ""; {
		m := kohyaWords.FindStringSubmatch(rest)
		if m == nil {
			return name
		}
		parts, rest = append(parts, m[1]), rest[len(m[0]):]
	}
	dotted := strings.Join(parts, ".")
	if renamed, ok := standardUNetNames.of(dotted); ok {
		return renamed
	}
	return dotted
}

var standardUNetNames = standardBlocks.unetNames()

// kohyaModules finds the tree's modules by the names that kohya gives them: those of diffusers with
// underscores, and those of the original code.
func kohyaModules(tree nn.Tree) map[string]string {
	keys := make(map[string]bool, len(tree))
	for _, s := range tree {
		keys[s.Key] = true
	}
	ldm := diffusersBlocks(modulesOf(keys)).unetNames().inverse()
	found := make(map[string]string, 2*len(tree))
	for _, s := range slices.Backward(tree) {
		module, ok := strings.CutSuffix(s.Key, ".weight")
		if !ok {
			continue
		}
		if name, ok := ldm.of(module); ok {
			found[underscored(name)] = module
		}
		found[underscored(module)] = module
	}
	return found
}

func underscored(module string) string { return strings.ReplaceAll(module, ".", "_") }
