package checkpoint

import (
	"regexp"
	"slices"
	"strings"

	"limner/models/nn"
)

// textPrefix stands before every key of a CLIPTextModel, except in files of transformers 5.
const textPrefix = "text_model."

// oldAttention matches the names that the VAE's attention had before diffusers 0.15.
var oldAttention = regexp.MustCompile(`^((?:.*\.)?attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))$`)

// vaeAttention matches the names that these projections have now.
var vaeAttention = regexp.MustCompile(`^(?:.*\.)?attentions\.\d+\.(?:to_q|to_k|to_v|to_out\.0)\.(?:weight|bias)$`)

// newName is today's name for an old one, and any other key unchanged.
func newName(key string) string {
	m := oldAttention.FindStringSubmatch(key)
	if m == nil {
		return key
	}
	return m[1] + map[string]string{"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}[m[2]] +
		m[3]
}

// match finds the tree's parameter for each key of a file: the key itself first, then an old
// spelling, then one with or without text_model. It returns the file's key by the tree's, and the
// keys of the file that belong to none. position_ids, which old text encoders saved, is no parameter.
func match(tree nn.Tree, keys []string) (found map[string]string, extra []string) {
	wanted := make(map[string]bool, len(tree))
	for _, s := range tree {
		wanted[s.Key] = true
	}
	found = make(map[string]string, len(tree))
	var rest []string
	for _, key := range keys {
		if wanted[key] {
			found[key] = key
		} else {
			rest = append(rest, key)
		}
	}
	for _, key := range rest {
		name := newName(key)
		candidates := []string{name, textPrefix + name, strings.TrimPrefix(name, textPrefix)}
		i := slices.IndexFunc(candidates, func(c string) bool { return wanted[c] && found[c] == "" })
		switch {
		case i >= 0:
			found[candidates[i]] = key
		case key != "position_ids" && !strings.HasSuffix(key, ".position_ids"):
			extra = append(extra, key)
		}
	}
	return found, extra
}
