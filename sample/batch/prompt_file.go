package batch

import (
	"errors"
	"fmt"
	"strings"

	"limner/internal/plaintext"
)

// maxPromptFile is the most of a prompt file that is read, in bytes.
const maxPromptFile = 64 << 20

// promptFile reads a prompt a line, each with kohya's switches behind it, as sample prompts of sd-scripts have: --n
// negative prompt, --w width, --h height, --d seed, --s steps, --l guidance scale, --ss scheduler, --cn control image.
// Other names of settings work as well. Empty lines and lines that begin with # say nothing. d has what the lines leave
// open; each line's seed is seeds behind that of the one before.
func promptFile(path string, d Settings, seeds int) ([]Settings, error) {
	raw, err := plaintext.ReadFile(path, maxPromptFile)
	if err != nil {
		return nil, fmt.Errorf("prompt file: %w", err)
	}
	var all []Settings
	var errs []error
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if len(all) == mostImages {
			return nil, fmt.Errorf("prompt file %s has more than %d prompts", path, mostImages)
		}
		if len(all) > 0 {
			if err := d.advanceSeed(seeds); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
			}
		}
		one, err := promptLine(line, d)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, i+1, err))
		}
		all = append(all, one)
	}
	if len(all) == 0 && len(errs) == 0 {
		return nil, fmt.Errorf("prompt file %s has no prompts", path)
	}
	return all, errors.Join(errs...)
}

func promptLine(line string, d Settings) (Settings, error) {
	parts := strings.Split(line, " --")
	d.Prompt = []string{strings.TrimSpace(parts[0])}
	var errs []error
	var controls []string
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, " ")
		value = strings.TrimSpace(value)
		switch name {
		case "g":
			continue // the guidance that distilled models are told; no Stable Diffusion model is
		case "cn":
			controls = append(controls, value)
			continue
		case "n", "w", "h", "d", "s", "l", "ss":
			name = "-" + name
		}
		if err := d.change(name, value); err != nil {
			errs = append(errs, err)
		}
	}
	if controls != nil {
		d.ControlImage = controls
	}
	return d, errors.Join(errs...)
}
