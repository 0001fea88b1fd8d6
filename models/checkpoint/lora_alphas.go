package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"limner/internal/plaintext"
)

// LoRAMetadata is the key under which diffusers keeps what PEFT's config said.
const LoRAMetadata = "lora_adapter_metadata"

// peftFields are the fields of PEFT's LoraConfig that a file's metadata or the adapter_config.json beside it hold.
// Fields stand below the component's name ("unet.lora_alpha"), or bare.
type peftFields map[string]json.RawMessage

func readPEFTFields(metadata map[string]string, path string) (peftFields, error) {
	fields := peftFields{}
	if text, ok := metadata[LoRAMetadata]; ok {
		if err := plaintext.JSON([]byte(text), &fields); err != nil {
			return nil, fmt.Errorf("metadata %s: %w", LoRAMetadata, err)
		}
		return fields, nil
	}
	if filepath.Base(path) != peftFile {
		return fields, nil
	}
	err := ReadConfig(filepath.Join(filepath.Dir(path), "adapter_config.json"), &fields)
	if errors.Is(err, fs.ErrNotExist) {
		return peftFields{}, nil
	}
	return fields, err
}

// decode puts a field's value into v, which stays as it is where the field is missing or null.
func (f peftFields) decode(component, name string, v any) error {
	raw, ok := f[component+"."+name]
	if !ok {
		raw, ok = f[name]
	}
	if !ok {
		return nil
	}
	if err := plaintext.JSON(raw, v); err != nil {
		return fmt.Errorf("PEFT's config: %s: %w", name, err)
	}
	return nil
}

// peftConfig is what PEFT's config says of one component's layers.
type peftConfig struct {
	rank           *int     // r
	alpha          *float64 // lora_alpha
	rankStabilized bool     // use_rslora: scaled by alpha/√rank
	ranks, alphas  peftPattern
}

// config decodes the fields of a component.
func (f peftFields) config(component string) (*peftConfig, error) {
	c := &peftConfig{}
	err := errors.Join(
		f.decode(component, "r", &c.rank), f.decode(component, "lora_alpha", &c.alpha),
		f.decode(component, "use_rslora", &c.rankStabilized),
		f.decode(component, "rank_pattern", &c.ranks), f.decode(component, "alpha_pattern", &c.alphas),
	)
	return c, err
}

// alphaOf is the alpha of a module whose down has rank rows: that of alpha_pattern, else lora_alpha, else the rank.
// A rank_pattern or r that says another rank is an error, as PEFT cannot load such a file.
func (c *peftConfig) alphaOf(module string, rank int) (float64, error) {
	if r, ok := c.ranks.of(module); ok && r.value != float64(rank) {
		return 0, fmt.Errorf("rank_pattern %q of PEFT's config says rank %g, down has %d rows", r.key, r.value, rank)
	} else if !ok && c.rank != nil && *c.rank != rank {
		return 0, fmt.Errorf("PEFT's config says rank %d (r) and has no rank_pattern for it, down has %d rows",
			*c.rank, rank)
	}
	alpha := float64(rank)
	if c.alpha != nil {
		alpha = *c.alpha
	}
	if a, ok := c.alphas.of(module); ok {
		alpha = a.value
	}
	if c.rankStabilized {
		alpha *= math.Sqrt(float64(rank))
	}
	return alpha, nil
}

// peftPattern is an alpha_pattern or rank_pattern, in the order of the file.
type peftPattern []peftRule

// peftRule gives the modules that (.*\.)?(key)$ matches from their beginning on a value.
type peftRule struct {
	key    string
	value  float64
	regexp *regexp.Regexp
}

// of finds the first rule that matches a module, as PEFT's get_pattern_key does.
func (p peftPattern) of(module string) (peftRule, bool) {
	for _, rule := range p {
		if at := rule.regexp.FindStringIndex(module); at != nil && at[0] == 0 {
			return rule, true
		}
	}
	return peftRule{}, false
}

// maxPatterns bounds a pattern's keys: SDXL has some 800 layers that a LoRA changes.
const maxPatterns = 10000

// UnmarshalJSON keeps the order of the keys. Of a key that stands twice, the first place and the last value count,
// as in a dict of Python.
func (p *peftPattern) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return errors.Join(errors.New("want an object of numbers"), err)
	}
	places := map[string]int{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		key := token.(string) // of an object, json.Unmarshal having found the syntax to be right
		var value float64
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return err
		}
		if err := plaintext.JSON(raw, &value); err != nil {
			return fmt.Errorf("%.200q: %w", key, err)
		}
		if i, ok := places[key]; ok {
			(*p)[i].value = value
			continue
		}
		if len(*p) == maxPatterns {
			return fmt.Errorf("more than %d keys", maxPatterns)
		}
		expression, err := compilePattern(key)
		if err != nil {
			return err
		}
		places[key] = len(*p)
		*p = append(*p, peftRule{key, value, expression})
	}
	return nil
}

// otherMeaning finds what regular expressions of Python and Go both may hold, but read differently or only Go takes:
// classes such as [[:alpha:]], \p{L} and \x{41}, \Q…\E and \z, the repetition {,3}, (?<name>…), flags that are not
// those of both, and flags for the rest of the expression.
var otherMeaning = regexp.MustCompile(`\[:|\\[pPQEzC]|\\x\{|\{,|\(\?<[^=!]|\(\?[a-zA-Z-]*[^imsP:)a-zA-Z-]|\(\?[a-zA-Z-]*U|\(\?[a-zA-Z-]+\)`)

// compilePattern compiles a key of a pattern, which is a regular expression of Python.
func compilePattern(key string) (*regexp.Regexp, error) {
	const advice = "write it without, or name the layers one by one"
	if len(key) > maxKey {
		return nil, fmt.Errorf("%.80q…: a regular expression of %d characters, want %d at most", key, len(key), maxKey)
	}
	if part := otherMeaning.FindString(key); part != "" {
		return nil, fmt.Errorf("%q: the regular expression holds %q, which is not supported: %s", key, part, advice)
	}
	expression, err := regexp.Compile(`(.*\.)?(` + key + `)$`)
	if err != nil {
		return nil, fmt.Errorf("%q: the regular expression is not supported (%w): %s", key, err, advice)
	}
	return expression, nil
}

// PEFTModule is the name of a layer in PEFT's config. It goes without the prefix that text encoders lack since
// transformers 5: diffusers takes that off the keys, but not off the config, and PEFT compares the ends of names.
func PEFTModule(component, module string) string {
	if component == UNet {
		return module
	}
	return strings.TrimPrefix(module, textPrefix)
}

// newPEFTFields are the fields that a PEFT config of the LoRA has, below each component's name: rank and alpha of most
// layers, and the others by module. diffusers makes PEFT's config of nothing else where it is there.
func (l *LoRA) newPEFTFields() map[string]any {
	fields := map[string]any{}
	for _, component := range l.Components() {
		ranks, alphas := map[int]int{}, map[float64]int{}
		var layers []LoRALayer
		var modules []string
		for _, layer := range l.Layers {
			if layer.Component == component {
				ranks[layer.Rank()]++
				alphas[layer.Alpha]++
				layers, modules = append(layers, layer), append(modules, PEFTModule(component, layer.Module))
			}
		}
		rank, alpha := most(ranks), most(alphas)
		rankPattern, alphaPattern := map[string]int{}, map[string]float64{}
		for i, layer := range layers {
			if layer.Rank() != rank {
				rankPattern[patternKey(modules[i], modules)] = layer.Rank()
			}
			if layer.Alpha != alpha {
				alphaPattern[patternKey(modules[i], modules)] = layer.Alpha
			}
		}
		fields[component+".r"], fields[component+".rank_pattern"] = rank, rankPattern
		fields[component+".lora_alpha"], fields[component+".alpha_pattern"] = alpha, alphaPattern
		fields[component+".target_modules"] = modules
	}
	return fields
}

// patternKey is the key of a pattern that matches a module and no other of them: its name, or where another's ends
// so too, an expression that begins where the name does. PEFT before version 0.13 takes only names.
func patternKey(module string, modules []string) string {
	if slices.ContainsFunc(modules, func(other string) bool { return strings.HasSuffix(other, "."+module) }) {
		return "^" + regexp.QuoteMeta(module)
	}
	return module
}

// most is the key with the largest count, the smallest of those where several have it.
func most[K int | float64](counts map[K]int) K {
	var best K
	found := 0
	for k, n := range counts {
		if n > found || n == found && k < best {
			best, found = k, n
		}
	}
	return best
}
