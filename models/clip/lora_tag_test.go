package clip

import (
	"slices"
	"strings"
	"testing"
)

func TestLoRATags(t *testing.T) {
	for _, c := range []struct {
		prompt, text string
		tags         []LoRATag
		err          string
	}{
		{prompt: "a <cat> at <lora>", text: "a <cat> at <lora>"},
		{prompt: "a <lora:x:0.8>cat, <lora:y z>big", text: "a cat, big", tags: []LoRATag{{"x", 0.8}, {"y z", 1}}},
		{prompt: "<lora:../x:-.5>", text: "", tags: []LoRATag{{"../x", -0.5}}},
		{prompt: "a <lora:x:0.8 cat", text: "a <lora:x:0.8 cat"},
		{prompt: "<lora:x:0.5:0.7>", err: "several weights"},
		{prompt: "<lora:x:big>", err: "<lora:x:big>: want <lora:NAME:WEIGHT>"},
		{prompt: "<lora:x:>", err: "want <lora:NAME:WEIGHT>"},
		{prompt: "<lora:x:nan>", err: "want <lora:NAME:WEIGHT>"},
		{prompt: "<lora:x:1> <lora:x:2>", err: "twice"},
	} {
		text := WithoutLoRATags(c.prompt)
		tags, err := LoRATags(c.prompt)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: got %v, want %q", c.prompt, err, c.err)
			}
			continue
		}
		if err != nil || text != c.text || !slices.Equal(tags, c.tags) {
			t.Errorf("%q: got %q with %v, %v", c.prompt, text, tags, err)
		}
	}
}

func FuzzLoRATags(f *testing.F) {
	f.Add("a <lora:x:0.8>cat")
	f.Add("<lora:<lora:x>:1>")
	f.Fuzz(func(t *testing.T, prompt string) {
		tags, err := LoRATags(prompt)
		if err == nil && (len(tags) > 0) != (WithoutLoRATags(prompt) != prompt) {
			t.Errorf("%q: %d tags", prompt, len(tags))
		}
	})
}
