package checkpoint

import "strings"

// loraMarks are the parts of keys that tell a LoRA's dialect. Those of kohya also mark the kinds of
// low-rank changes that are not supported.
var loraMarks = []struct {
	mark    string
	dialect Dialect
}{
	{".lora_down.", DialectKohya}, {".lora_up.", DialectKohya}, {".hada_w", DialectKohya}, {".lokr_w", DialectKohya},
	{".lora_A.", DialectPEFT}, {".lora_B.", DialectPEFT},
	{".lora.down.", DialectDiffusers}, {".lora.up.", DialectDiffusers}, {"_lora.down.", DialectDiffusers}, {"_lora.up.", DialectDiffusers},
	{".lora_linear_layer.", DialectDiffusers},
}

// isLoRA tells whose naming of a LoRA the keys follow, if any.
func isLoRA[T any](tensors map[string]T) Dialect {
	for _, m := range loraMarks {
		for key := range tensors {
			if strings.Contains(key, m.mark) {
				return m.dialect
			}
		}
	}
	return DialectNone
}
