package clip

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// LoRATag is <lora:NAME:WEIGHT> in a prompt: A1111's way to name a LoRA and how far it is applied.
type LoRATag struct {
	Name   string
	Weight float64 // finite; 1 where none is given
}

var loraTag = regexp.MustCompile(`<lora:([^>]+)>`)

// HasLoRATag says whether a prompt names a LoRA, which no text encoder understands.
func HasLoRATag(prompt string) bool { return loraTag.MatchString(prompt) }

// WithoutLoRATags is a prompt without the LoRAs that it names, as A1111 reads it then.
func WithoutLoRATags(prompt string) string { return loraTag.ReplaceAllString(prompt, "") }

// LoRATags are the LoRAs that a prompt names. It fails for a tag that is not understood, and for a LoRA that is named
// twice.
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
