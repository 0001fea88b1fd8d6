package suggest

import "testing"

func TestNear(t *testing.T) {
	names := []string{
		"conv_in.weight", "conv_out.weight", "mid_block.attentions.0.to_q.weight", "mid_block.attentions.1.to_q.weight",
	}
	for name, want := range map[string]string{
		"conv_input.weight":                  " (is it conv_in.weight?)",
		"convin.weight":                      " (is it conv_in.weight?)",
		"mid_block.attentions.0.q.weight":    " (is it mid_block.attentions.0.to_q.weight?)",
		"mid_block.attention.1.to_q.weight":  " (is it mid_block.attentions.1.to_q.weight?)",
		"mid_block.attentions.2.to_q.weight": "",
		"something.else.entirely":            "",
		"":                                   "",
	} {
		if got := Near(name, names); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
