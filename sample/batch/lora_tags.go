package batch

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"limner/internal/suggest"
	"limner/models/clip"
)

// loraNames are the LoRAs that prompts may name by <lora:NAME:WEIGHT>.
type loraNames struct {
	given  map[string][]int    // their places among --lora, by the name of the file without its extension
	folder map[string][]string // paths below --lora_dir, likewise
}

// What is looked at below --lora_dir at most: a folder of thousands of LoRAs, sorted into folders, and no disk.
const (
	mostLoRAEntries = 100_000
	mostLoRADepth   = 8
)

// loraName is what a prompt calls a LoRA.
func loraName(path string) string {
	base := baseName(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// newLoRANames lists the LoRAs that are given, and the files below a folder, if there is one. What a prompt says is
// looked up in these lists and never part of a path.
func newLoRANames(given []string, folder string) (loraNames, error) {
	names := loraNames{map[string][]int{}, map[string][]string{}}
	for i, path := range given {
		name := loraName(path)
		names.given[name] = append(names.given[name], i)
	}
	if folder == "" {
		return names, nil
	}
	entries, depth := 0, strings.Count(strings.TrimRight(filepath.Clean(folder), string(filepath.Separator)),
		string(filepath.Separator))
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > mostLoRAEntries {
			return fmt.Errorf("%s holds more than %d files and folders: give the folder of the LoRAs themselves",
				folder, mostLoRAEntries)
		}
		if e.IsDir() && strings.Count(filepath.Clean(path), string(filepath.Separator))-depth > mostLoRADepth {
			return fmt.Errorf("%s: more than %d folders deep: give the folder of the LoRAs themselves",
				path, mostLoRADepth)
		}
		if !e.IsDir() && filepath.Ext(path) == ".safetensors" {
			name := loraName(path)
			names.folder[name] = append(names.folder[name], path)
		}
		return nil
	})
	if err != nil {
		return names, fmt.Errorf("--lora_dir %s: %w", folder, err)
	}
	return names, nil
}

// known are all names.
func (n loraNames) known() []string {
	all := slices.Concat(sortedKeys(n.given), sortedKeys(n.folder))
	slices.Sort(all)
	return slices.Compact(all)
}

// find says which LoRA a name means: its place among those that are given, or its path in the folder.
func (n loraNames) find(name string) (given int, path string, err error) {
	switch places, paths := n.given[name], n.folder[name]; {
	case len(places) == 1:
		return places[0], "", nil
	case len(places) == 0 && len(paths) == 1:
		return -1, paths[0], nil
	case len(places)+len(paths) > 1:
		return 0, "", fmt.Errorf("%d LoRAs have the name %q: give one of them by --lora",
			max(len(places), len(paths)), name)
	}
	known := n.known()
	if len(known) == 0 {
		return 0, "", fmt.Errorf("no LoRA %q: give it by --lora, or its folder by --lora_dir", name)
	}
	const most = 50
	text := strings.Join(known[:min(len(known), most)], ", ")
	if len(known) > most {
		text += fmt.Sprintf(" and %d more", len(known)-most)
	}
	return 0, "", fmt.Errorf("no LoRA %q%s; known: %s", name, suggest.Near(name, known), text)
}

// applyLoRATags gives the images the LoRAs that their prompts name, with the weights that stand there. A LoRA of the
// folder is part of the model as soon as one prompt names it, and has the scale 0 where none does.
func (c *Options) applyLoRATags(lines []Settings) error {
	names, err := newLoRANames(c.LoRA, c.LoRADir)
	if err != nil {
		return err
	}
	weights := make([]map[string]float64, len(lines)) // by path, of the folder's
	used := map[string]bool{}
	var errs []error
	for i := range lines {
		d := &lines[i]
		if n := len(d.LoRAScale); n > 0 && n != len(d.LoRA) {
			return nil // the check of all flags will say so
		}
		tags, err := d.loraTags()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(tags) == 0 {
			continue
		}
		weights[i] = map[string]float64{}
		scales := d.loraScales()
		for _, tag := range tags {
			given, path, err := names.find(tag.Name)
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("prompt %q: %w", d.Prompt[0], err))
			case given >= 0:
				scales[given] = tag.Weight
			default:
				weights[i][path], used[path] = tag.Weight, true
			}
		}
		d.LoRAScale = scales
	}
	if err := joinDistinct(errs); err != nil {
		return err
	}
	a1111 := func(d Settings) bool { return clip.Style(d.PromptStyle) == clip.A1111 }
	if c.LoRADir != "" && !slices.ContainsFunc(lines, a1111) {
		return errors.New("--lora_dir needs --prompt_style a1111, whose prompts name its " +
			"files by <lora:NAME:WEIGHT>: leave it out, or give a file by --lora")
	}
	if len(used) == 0 {
		return nil
	}
	paths := slices.Sorted(maps.Keys(used))
	c.LoRA = slices.Concat(c.LoRA, paths)
	for i := range lines {
		d := &lines[i]
		scales := d.loraScales()
		for _, path := range paths {
			scales = append(scales, weights[i][path])
		}
		d.LoRA, d.LoRAScale = c.LoRA, scales
	}
	return nil
}

// loraTags are what an image's prompt names. Only A1111's syntax has them, and not in negative prompts.
func (d *Settings) loraTags() ([]clip.LoRATag, error) {
	if d.NegativePrompt != nil && clip.HasLoRATag(*d.NegativePrompt) {
		return nil, errors.New("--negative_prompt names a LoRA by <lora:…>, which has its place in the prompt")
	}
	if clip.Style(d.PromptStyle) == clip.A1111 {
		tags, err := clip.LoRATags(d.Prompt[0])
		if err != nil {
			err = fmt.Errorf("prompt %q: %w", d.Prompt[0], err)
		}
		return tags, err
	}
	if clip.HasLoRATag(d.Prompt[0]) {
		return nil, fmt.Errorf("prompt %q names a LoRA by <lora:…>, which --prompt_style a1111 applies; "+
			"with %s, take it out and give --lora and --lora_scale",
			d.Prompt[0], d.PromptStyle)
	}
	return nil, nil
}

// loraScales are the scales of the LoRAs, as a copy.
func (d *Settings) loraScales() []float64 {
	if d.LoRAScale != nil {
		return slices.Clone(d.LoRAScale)
	}
	return slices.Repeat([]float64{1}, len(d.LoRA))
}

// text is the prompt as the text encoders read it.
func (d *Settings) text() string {
	if clip.Style(d.PromptStyle) == clip.A1111 {
		return clip.WithoutLoRATags(d.Prompt[0])
	}
	return d.Prompt[0]
}
