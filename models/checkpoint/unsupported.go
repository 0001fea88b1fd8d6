package checkpoint

import (
	"fmt"
	"strings"
)

// Kinds of files that are known but not supported. They are told by their keys, so that an error can name them.
var unsupportedKinds = []struct {
	kind   Kind
	before bool // told before a LoRA's and a ControlNet's keys are looked at, as the file has such keys too
	isKey  func(key string) bool
}{
	{"Control-LoRA", true, func(key string) bool { return key == "lora_controlnet" }},
	{"IP-Adapter", true, prefixed("ip_adapter.", "image_proj.")},
	{"ControlNet-LLLite", true, containing("lllite_")},
	{"T2I-Adapter", true, prefixed("adapter.body.", "adapter.conv_in.", "body.0.block1.", "body.0.resnets.")},
	{"motion module", true, containing(".motion_modules.", "temporal_transformer.")},
	{"SD 3", true, containing("joint_blocks.", "joint_transformer_blocks.")},
	{"Flux", true, containing("double_blocks.", "single_transformer_blocks.")},
	{"LoHa", false, containing(".hada_w")},
	{"LoKr", false, containing(".lokr_w")},
	{"BOFT", false, containing(".boft_")},
	{"OFT", false, containing(".oft_blocks", ".oft_diag", ".oft_r", ".oft_R")},
	{"IA3", false, containing(".ia3_l", ".on_input")},
	{"GLoRA", false, containing(".a1.weight", ".b2.weight")},
	{"VeRA", false, containing(".vera_lambda_")},
	{"whole differences to the layers of a model", false, suffixed(".diff", ".diff_b")},
}

func prefixed(prefixes ...string) func(string) bool {
	return func(key string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(key, p) {
				return true
			}
		}
		return false
	}
}

func suffixed(suffixes ...string) func(string) bool {
	return func(key string) bool {
		for _, suffix := range suffixes {
			if strings.HasSuffix(key, suffix) {
				return true
			}
		}
		return false
	}
}

func containing(parts ...string) func(string) bool {
	return func(key string) bool {
		for _, p := range parts {
			if strings.Contains(key, p) {
				return true
			}
		}
		return false
	}
}

// unsupported is the kind of a file that is not supported, "" of others; before says which of the kinds to look for.
func unsupported[T any](tensors map[string]T, before bool) Kind {
	for _, u := range unsupportedKinds {
		if u.before != before {
			continue
		}
		for key := range tensors {
			if u.isKey(key) {
				return u.kind
			}
		}
	}
	return ""
}

// What is the file's kind in words: with its networks, and with what is not supported of it.
func (c *Checkpoint) What() string {
	for _, u := range unsupportedKinds {
		if c.Kind == u.kind {
			return fmt.Sprintf("%s, which is not supported", c.Kind)
		}
	}
	if names := c.Components(); len(names) > 0 {
		return fmt.Sprintf("%s (%s)", c.Kind, strings.Join(names, ", "))
	}
	return string(c.Kind)
}

// Variant names what a UNet was made for that takes more than latents, by the number of its in_channels, where that is
// not supported; else "".
func Variant(inChannels int) string {
	switch inChannels {
	case 5:
		return "depth-to-image"
	case 7:
		return "upscaler"
	case 8:
		return "InstructPix2Pix"
	}
	return ""
}
