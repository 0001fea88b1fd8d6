package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
)

// hasNoAPI says whether an answer to the question for a repo's files is that of a server which only serves files: it
// knows no such address, and does not say which of the Hub's things is missing.
func hasNoAPI(err error) bool {
	var status *statusError
	return errors.As(err, &status) && status.reason == "" && !status.elsewhere &&
		(status.code == http.StatusNotFound || status.code == http.StatusMethodNotAllowed ||
			status.code == http.StatusNotImplemented)
}

// probe finds the files of a commit without a list of them, by asking for each that may be wanted: those of a
// pipeline's folders, of a component, of a LoRA or, where ref names a path, that file.
func (c *Client) probe(ctx context.Context, ref Ref, s Selection) (repoInfo, error) {
	info := repoInfo{commit: ref.Revision}
	for _, name := range candidates(ref.Path, s.Variant) {
		var f file
		err := c.retry(ctx, c.options.Attempts, "look up "+name, func() (_ bool, err error) {
			f, err = c.headFile(ctx, c.resolveURL(ref, ref.Revision, name), file{path: name})
			return false, err
		})
		var status *statusError
		switch {
		case err == nil:
			info.files = append(info.files, f)
		case errors.As(err, &status) && status.code == http.StatusNotFound:
		default:
			return repoInfo{}, fmt.Errorf("look up %s: %w", name, err)
		}
	}
	return info, nil
}

// candidates are the names that the files of a repo may have. Shards, whose number nobody says, are none of them.
func candidates(at, variant string) []string {
	var names []string
	add := func(dir string, files ...string) {
		for _, name := range files {
			if name = path.Join(dir, name); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	network := func(dir string) {
		add(dir, "config.json")
		for _, v := range slices.Compact([]string{variant, "", "fp16", "bf16"}) {
			for _, base := range bases(dir) {
				if v != "" {
					base += "." + v
				}
				add(dir, base+".safetensors")
			}
		}
	}
	if at != "" {
		if path.Ext(at) != "" {
			return []string{at}
		}
		network(at)
		add(at, loraFile, peftFile, peftConfig)
		return names
	}
	add("", "model_index.json")
	for _, component := range components {
		switch component {
		case "scheduler":
			add(component, "scheduler_config.json")
		case "tokenizer", "tokenizer_2":
			add(component, tokenizerFiles...)
		default:
			network(component)
		}
	}
	network(".")
	add("", loraFile, peftFile, peftConfig)
	return names
}
