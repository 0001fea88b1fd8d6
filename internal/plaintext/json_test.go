package plaintext

import (
	"strings"
	"testing"
)

// TestJSONErrors has the errors say what JSON stands where and what should, without Go's names of types.
func TestJSONErrors(t *testing.T) {
	type inner struct {
		Sizes []int `json:"sizes"`
	}
	for raw, want := range map[string]string{
		`[1,2]`:                      "got a list, want an object",
		`"x"`:                        "got a text, want an object",
		`{"inputs": [1]}`:            "field inputs: got a list, want an object",
		`{"inputs": {"a": 1}}`:       "field inputs: got a number, want a text",
		`{"n": 1.5}`:                 "field n: got the number 1.5, want a whole number",
		`{"u": -1}`:                  "field u: got the number -1, want a whole number from 0",
		`{"f": true}`:                "field f: got true or false, want a number",
		`{"p": "x"}`:                 "field p: got a text, want true or false",
		"{\n\"in\": {\"sizes\": 3}}": "line 2: field sizes: got a number, want a list",
		"{\n\n,}":                    "line 3: not JSON: invalid character ','",
		`{"n": 1`:                    "not JSON: unexpected end of JSON input",
		"{\n\"s\": \"\xff\"}":        "line 2, byte 7: byte 0xff is not UTF-8",
		"ÿþ{}":                       `not JSON: 'ÿ' stands where`,
		"\xc3(":                      "line 1, byte 1: byte 0xc3 is not UTF-8",
	} {
		var v struct {
			Inputs map[string]string `json:"inputs"`
			N      int               `json:"n"`
			U      uint64            `json:"u"`
			F      float32           `json:"f"`
			P      *bool             `json:"p"`
			S      string            `json:"s"`
			In     inner             `json:"in"`
		}
		if err := JSON([]byte(raw), &v); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", raw, err, want)
		}
	}
	var v any
	if err := JSON([]byte("{\"a\": [1]}\n"), &v); err != nil {
		t.Error(err)
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("{\n\"a\": {\"b\": 1}}")
	f.Add("\n[1,")
	f.Fuzz(func(t *testing.T, raw string) {
		var v map[string]struct{ A, B []float64 }
		if err := JSON([]byte(raw), &v); err != nil && strings.Contains(err.Error(), "Go ") &&
			!strings.Contains(raw, "Go ") {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
