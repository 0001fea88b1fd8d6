package hub

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// weightSet is the files that hold a network's weights together.
type weightSet struct {
	variant string
	files   []string
}

// bases are the names of weights: diffusers' and transformers'.
func bases(dir string) []string {
	if strings.HasPrefix(path.Base(dir), "text_encoder") {
		return []string{"model", "diffusion_pytorch_model"}
	}
	return []string{"diffusion_pytorch_model", "model"}
}

// weights lists the sets that a folder has something of, the wanted ones first: safetensors in one
// file or in shards, the variants, then Flax.
func (l *layout) weights(dir string) []weightSet {
	variants := []string{"", "fp16", "bf16"}
	if l.variant != "" {
		variants = slices.Insert(slices.DeleteFunc(variants, func(v string) bool { return v == l.variant }),
			0, l.variant)
	}
	names := l.names(dir)
	var sets []weightSet
	for _, v := range variants {
		for _, base := range bases(dir) {
			if name := base + dotted(v) + ".safetensors"; slices.Contains(names, name) {
				sets = append(sets, weightSet{v, []string{name}})
			}
			if files := shards(names, base, dotted(v)); len(files) > 0 {
				sets = append(sets, weightSet{v, files})
			}
		}
	}
	for _, name := range []string{"diffusion_flax_model.msgpack", "flax_model.msgpack"} {
		if slices.Contains(names, name) {
			sets = append(sets, weightSet{"", []string{name}})
		}
	}
	return sets
}

func dotted(variant string) string {
	if variant == "" {
		return ""
	}
	return "." + variant
}

// shards lists the index and every shard of a set of which something is there.
func shards(names []string, base, variant string) []string {
	// Both diffusers' way to name the variant of a shard and its older one.
	pattern := regexp.MustCompile(fmt.Sprintf(`^%s(%s-\d{5}-of-(\d{5})|-\d{5}-of-(\d{5})%[2]s)\.safetensors$`,
		base, regexp.QuoteMeta(variant)))
	var files []string
	for _, index := range indexNames(base, variant) {
		if slices.Contains(names, index) {
			files = append(files, index)
			break
		}
	}
	for _, name := range names {
		m := pattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		if len(files) == 0 {
			files = append(files, indexNames(base, variant)[0])
		}
		form, digits := base+variant+"-%05d-of-%s.safetensors", m[2]
		if digits == "" {
			form, digits = base+"-%05d-of-%s"+variant+".safetensors", m[3]
		}
		total, _ := strconv.Atoi(digits)
		for i := range total {
			files = append(files, fmt.Sprintf(form, i+1, digits))
		}
		return files
	}
	if len(files) == 1 { // an index, and nothing of what it names
		files = append(files, fmt.Sprintf("%s%s-00001-of-NNNNN.safetensors", base, variant))
	}
	return files
}

// indexNames lists how the index of a sharded model has been called.
func indexNames(base, variant string) []string {
	if variant == "" {
		return []string{base + ".safetensors.index.json"}
	}
	return []string{
		base + ".safetensors.index" + variant + ".json",
		base + ".safetensors" + variant + ".index.json",
		base + variant + ".safetensors.index.json",
	}
}

// whole says whether all files of a set in dir are there.
func (l *layout) whole(dir string, set weightSet) bool {
	return !slices.ContainsFunc(set.files, func(name string) bool {
		_, ok := l.files[path.Join(dir, name)]
		return !ok
	})
}

// takeSet takes a set's files; what is not there is missing.
func (l *layout) takeSet(dir string, set weightSet) {
	for _, name := range set.files {
		l.need(path.Join(dir, name))
	}
	l.taken = append(l.taken, set.variant)
}
