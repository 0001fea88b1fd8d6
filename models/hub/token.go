package hub

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Token is a Hub access token. It prints as [redacted], in whatever form it is printed.
type Token struct {
	reveal func() string // a function, because fmt would print a string in an unexported field
}

// NewToken takes a token as a file or an environment variable holds it: spaces and newlines
// around it do not count. An empty one is no token.
func NewToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Token{}, nil
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Token{}, errors.New("the Hub token holds characters that no token has: want one line such as hf_…")
	}
	return Token{reveal: func() string { return s }}, nil
}

// IsSet says whether there is a token.
func (t Token) IsSet() bool { return t.reveal != nil }

const redacted = "[redacted]"

// redact takes the token out of text that a server wrote.
func (t Token) redact(s string) string {
	if !t.IsSet() {
		return s
	}
	return strings.ReplaceAll(s, t.reveal(), redacted)
}

// clean takes the token out of an error that quotes a server.
func (t Token) clean(err error) error {
	if err == nil || t.redact(err.Error()) == err.Error() {
		return err
	}
	return cleanError{t.redact(err.Error()), err}
}

type cleanError struct {
	text string
	err  error
}

func (e cleanError) Error() string { return e.text }
func (e cleanError) Unwrap() error { return e.err }

// String returns [redacted], or nothing where there is no token.
func (t Token) String() string {
	if !t.IsSet() {
		return ""
	}
	return redacted
}

// Format prints String for every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue keeps the token out of structured logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText keeps the token out of JSON and YAML.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
