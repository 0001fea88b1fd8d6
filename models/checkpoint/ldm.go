package checkpoint

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"limner/models/safetensors"
)

// names maps the names of modules, or whole keys, from one naming to another.
type names map[string]string

// maxKey is the length from which a key is no network's and stays as it is.
const maxKey = 512

// of is the new name of a key: its longest part that is a known module is replaced.
func (n names) of(key string) (string, bool) {
	if len(key) > maxKey {
		return key, false
	}
	for end := len(key); end > 0; end = strings.LastIndexByte(key[:end], '.') {
		if name, ok := n[key[:end]]; ok {
			return name + key[end:], true
		}
	}
	return key, false
}

// inverse maps the other way.
func (n names) inverse() names {
	out := make(names, len(n))
	for from, to := range n {
		out[to] = from
	}
	return out
}

// resnet adds a residual block, whose parts LDM numbers.
func (n names) resnet(ldm, diffusers string) {
	for from, to := range map[string]string{
		"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
		"out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
	} {
		n[ldm+"."+from] = diffusers + "." + to
	}
}

// at joins the parts of a dotted name.
func at(parts ...any) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('.')
		}
		switch p := p.(type) {
		case string:
			b.WriteString(p)
		case int:
			b.WriteString(strconv.Itoa(p))
		}
	}
	return b.String()
}

// modules is the set of all modules that the keys lie in, to a depth that holds every block.
type modules map[string]bool

func modulesOf[T any](keys map[string]T) modules {
	const depth = 8
	m := modules{}
	for key := range keys {
		if len(key) > maxKey {
			continue
		}
		end := 0
		for range depth {
			i := strings.IndexByte(key[end:], '.')
			if i < 0 {
				break
			}
			m[key[:end+i]] = true
			end += i + 1
		}
	}
	return m
}

// count is how many of name.0, name.1, … there are.
func (m modules) count(name string) int {
	n := 0
	for m[at(name, n)] {
		n++
	}
	return n
}

// translated is a network's tensors under diffusers' keys, with the file's keys.
type translated struct {
	tensors map[string]safetensors.Tensor
	spelled map[string]string
}

// add takes up a tensor under a new key. A key that is there already wins, and the second stays under its own.
func (t *translated) add(key, file string, tensor safetensors.Tensor) {
	if _, ok := t.tensors[key]; ok {
		key = file
	}
	t.tensors[key] = tensor
	if key != file {
		t.spelled[key] = file
	}
}

// translate renames the keys of a network. Those without a new name stay, to be listed as extra.
func translate(part map[string]safetensors.Tensor, n names) translated {
	t := translated{
		tensors: make(map[string]safetensors.Tensor, len(part)), spelled: make(map[string]string, len(part)),
	}
	for _, key := range slices.Sorted(maps.Keys(part)) {
		name, _ := n.of(key)
		t.add(name, key, part[key])
	}
	return t
}

// within is the part of the tensors whose keys begin with a prefix, without it.
func within(tensors map[string]safetensors.Tensor, prefix string) map[string]safetensors.Tensor {
	part := map[string]safetensors.Tensor{}
	for key, t := range tensors {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			part[rest] = t
		}
	}
	return part
}
