package numbers_test

import (
	"fmt"
	"testing"

	"limner/internal/numbers"
)

func TestNumbers(t *testing.T) {
	parse := map[string]func(string) (any, error){
		"int":   func(text string) (any, error) { return numbers.Int(text) },
		"uint":  func(text string) (any, error) { return numbers.Uint(text) },
		"float": func(text string) (any, error) { return numbers.Float(text) },
	}
	for _, c := range []struct{ kind, text, want string }{
		{"int", "-12", "-12"}, {"int", "+3", "3"}, {"int", "010", "10"},
		{"int", "9223372036854775807", "9223372036854775807"},
		{"int", "99999999999999999999", "got 99999999999999999999, want at most 9223372036854775807"},
		{"int", "-99999999999999999999", "got -99999999999999999999, want at least -9223372036854775808"},
		{"int", "1e30", `got "1e30", want a whole number in digits`}, {"int", "", `got "", want a whole number in digits`},
		{"int", "2.5", `got "2.5", want a whole number in digits`},
		{"uint", "18446744073709551615", "18446744073709551615"},
		{"uint", "18446744073709551616", "got 18446744073709551616, want at most 18446744073709551615"},
		{"uint", "-1", `got "-1", want a whole number of at least 0 in digits`},
		{"float", "-1e-5", "-1e-05"}, {"float", "1e-999", "0"},
		{"float", "1e400", "got 1e400, want a number between -1.8e+308 and 1.8e+308"},
		{"float", "Inf", `got "Inf", want a finite number`}, {"float", "nan", `got "nan", want a finite number`},
		{"float", "1,5", `got "1,5", want a number`},
	} {
		value, err := parse[c.kind](c.text)
		got := fmt.Sprint(value)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %q: got %s, want %s", c.kind, c.text, got, c.want)
		}
	}
}
