package batch

import (
	"fmt"
	"slices"
	"strings"

	"limner/internal/numbers"
	"limner/internal/suggest"
	"limner/models/clip"
)

// setting changes one value of an image.
type setting struct {
	name    string
	aliases []string // of A1111, and kohya's switches of prompt files, which have a dash before them here
	set     func(d *Settings, value string) error
}

// settings are what lines of a prompt file and axes of --xy may change from image to image.
func settings() []setting {
	return []setting{
		{"prompt", nil, func(d *Settings, v string) error { d.Prompt = []string{v}; return nil }},
		{"negative_prompt", []string{"-n"}, func(d *Settings, v string) error { d.NegativePrompt = &v; return nil }},
		{"width", []string{"-w"}, number(func(d *Settings) *int { return &d.Width })},
		{"height", []string{"-h"}, number(func(d *Settings) *int { return &d.Height })},
		{"seed", []string{"-d"}, func(d *Settings, v string) (err error) {
			d.Seed, err = numbers.Uint(v)
			return err
		}},
		{
			"num_inference_steps", []string{"-s", "steps"},
			number(func(d *Settings) *int { return &d.NumInferenceSteps }),
		},
		{
			"guidance_scale", []string{"-l", "cfg", "guidance"},
			fraction(func(d *Settings) *float64 { return &d.GuidanceScale }),
		},
		{"scheduler", []string{"-ss", "sampler"}, func(d *Settings, v string) error {
			d.Scheduler = kohyaScheduler(v)
			return nil
		}},
		{"control_image", []string{"-cn"}, func(d *Settings, v string) error {
			d.ControlImage = []string{v}
			return nil
		}},
		{"guidance_rescale", nil, fraction(func(d *Settings) *float64 { return &d.GuidanceRescale })},
		{"eta", nil, fraction(func(d *Settings) *float64 { return &d.Eta })},
		{"clip_skip", nil, number(func(d *Settings) *int { return &d.ClipSkip })},
		{"strength", []string{"denoising"}, func(d *Settings, v string) error {
			d.Strength = new(float64)
			return fraction(func(d *Settings) *float64 { return d.Strength })(d, v)
		}},
		{"controlnet_conditioning_scale", []string{"conditioning"},
			fractionOfAll(func(d *Settings) *[]float64 { return &d.ControlNetConditioningScale }, 1)},
		{
			"control_guidance_start", nil,
			fractionOfAll(func(d *Settings) *[]float64 { return &d.ControlGuidanceStart }, 1),
		},
		{"control_guidance_end", nil, fractionOfAll(func(d *Settings) *[]float64 { return &d.ControlGuidanceEnd }, 1)},
		{"lora_scale", nil, func(d *Settings, v string) error {
			return fractionOfAll(func(d *Settings) *[]float64 { return &d.LoRAScale }, len(d.LoRA))(d, v)
		}},
		{"prompt_style", nil, func(d *Settings, v string) error {
			if !slices.Contains([]string{"plain", "a1111", "comfy"}, v) {
				return fmt.Errorf("got %q, want plain, a1111 or comfy", v)
			}
			d.PromptStyle = clip.Style(v)
			return nil
		}},
	}
}

func number(field func(*Settings) *int) func(*Settings, string) error {
	return func(d *Settings, v string) error {
		n, err := numbers.Int(v)
		*field(d) = n
		return err
	}
}

func fraction(field func(*Settings) *float64) func(*Settings, string) error {
	return func(d *Settings, v string) error {
		x, err := numbers.Float(v)
		*field(d) = x
		return err
	}
}

// fractionOfAll sets a number for each of n.
func fractionOfAll(field func(*Settings) *[]float64, n int) func(*Settings, string) error {
	return func(d *Settings, v string) error {
		var x float64
		if err := fraction(func(*Settings) *float64 { return &x })(d, v); err != nil {
			return err
		}
		*field(d) = slices.Repeat([]float64{x}, n)
		return nil
	}
}

// change sets the value of a name, which may be an alias. The settings share nothing with others afterwards.
func (d *Settings) change(name, value string) error {
	var names []string
	for _, s := range settings() {
		if plain := strings.ReplaceAll(name, "-", "_"); plain == s.name || slices.Contains(s.aliases, name) {
			if err := s.set(d, value); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			return nil
		}
		names = append(names, s.name)
	}
	return fmt.Errorf("%s is nothing that may change from image to image%s; these may: %s",
		name, suggest.Near(name, names), strings.Join(names, ", "))
}

// kohyaScheduler gives kohya's names of samplers ours where they differ.
func kohyaScheduler(name string) string {
	switch lower := strings.ToLower(name); lower {
	case "k_lms", "k_euler", "k_euler_a":
		return strings.TrimPrefix(lower, "k_")
	case "dpmsolver++":
		return "dpm++_2m"
	}
	return name
}
