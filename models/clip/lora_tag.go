package clip

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// LoRATag is <lora:NAME:WEIGHT> in a prompt: A1111's syntax for a LoRA and its scale.
type LoRATag struct {
	Name   string
	Weight float64 // finite; 1 where none is given
}

var loraTag = regexp.MustCompile(`<lora:([^>]+)>`)

// HasLoRATag says whether a prompt has a LoRA tag, which is not text for the text encoder.
func HasLoRATag(prompt string) bool { return loraTag.MatchString(prompt) }

// WithoutLoRATags removes the LoRA tags from a prompt, as A1111 does before it encodes it.
func WithoutLoRATags(prompt string) string { return loraTag.ReplaceAllString(prompt, "") }

// LoRATags lists the LoRA tags of a prompt. It fails for a malformed tag, and for a LoRA that is named twice.
func LoRATags(prompt string) (tags []LoRATag, err error) {
	named := map[string]bool{}
	for _, match := range loraTag.FindAllStringSubmatch(prompt, -1) {
		name, weight, given := strings.Cut(match[1], ":")
		tag := LoRATag{Name: name, Weight: 1}
		if given {
			tag.Weight, err = strconv.ParseFloat(strings.TrimSpace(weight), 64)
		}
		switch {
		case strings.Contains(weight, ":"):
			return nil, fmt.Errorf("%s: several weights: a LoRA has one, for text encoders and UNet alike", match[0])
		case err != nil || math.IsNaN(tag.Weight) || math.IsInf(tag.Weight, 0):
			return nil, fmt.Errorf("%s: want <lora:NAME:WEIGHT>, where the weight is a number", match[0])
		case named[name]:
			return nil, fmt.Errorf("%s: the prompt names this LoRA twice", match[0])
		}
		named[name] = true
		tags = append(tags, tag)
	}
	return tags, nil
}
