// Package plaintext reads what people and their editors write: captions, prompts, metadata, configs and recipes.
package plaintext

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"limner/internal/disk"
)

// The byte order marks that editors put before a text.
var (
	markUTF8   = []byte("\xef\xbb\xbf")
	markLittle = []byte("\xff\xfe")
	markBig    = []byte("\xfe\xff")
)

// Decode converts a text to UTF-8, without a byte order mark and with \n for \r\n. It accepts UTF-8, and UTF-16 with a
// byte order mark, as Windows' editors write it. It fails for other bytes, with their place: a replacement character
// would become part of a prompt.
func Decode(raw []byte) ([]byte, error) {
	var err error
	switch {
	case bytes.HasPrefix(raw, markUTF8):
		raw = raw[len(markUTF8):]
	case bytes.HasPrefix(raw, markLittle):
		raw, err = fromUTF16(raw[2:], func(p []byte) uint16 { return uint16(p[0]) | uint16(p[1])<<8 })
	case bytes.HasPrefix(raw, markBig):
		raw, err = fromUTF16(raw[2:], func(p []byte) uint16 { return uint16(p[0])<<8 | uint16(p[1]) })
	}
	if err == nil {
		err = check(raw)
	}
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), nil
}

// ReadFile decodes a regular file of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	raw, err := disk.ReadFile(path, limit)
	if err != nil {
		return nil, err // names the file
	}
	text, err := Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// fromUTF16 converts units of two bytes each to UTF-8.
func fromUTF16(raw []byte, unit func([]byte) uint16) ([]byte, error) {
	if len(raw)%2 != 0 {
		return nil, errors.New("UTF-16 of an odd number of bytes: cut off; save it as UTF-8")
	}
	text := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i += 2 {
		r := rune(unit(raw[i:]))
		if utf16.IsSurrogate(r) {
			second := rune(utf8.RuneError)
			if i+4 <= len(raw) {
				second = rune(unit(raw[i+2:]))
			}
			if r = utf16.DecodeRune(r, second); r == utf8.RuneError {
				return nil, fmt.Errorf("%s: half a character of UTF-16: save it as UTF-8", place(text, len(text)))
			}
			i += 2
		}
		text = utf8.AppendRune(text, r)
	}
	return text, nil
}

// check fails for the first byte that is not valid in UTF-8 text.
func check(text []byte) error {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size < 2 {
			return fmt.Errorf("%s: byte 0x%02x is not UTF-8: save it as UTF-8", place(text, i), text[i])
		}
		if r == 0 {
			return fmt.Errorf("%s: a zero byte, which no text has (in UTF-16 without its byte order mark every other "+
				"one is): save it as UTF-8", place(text, i))
		}
		i += size
	}
	return nil
}

// place names the line and the byte of an offset in a text, counted from 1.
func place(text []byte, at int) string {
	line := 1 + bytes.Count(text[:at], []byte("\n"))
	return fmt.Sprintf("line %d, byte %d", line, at-bytes.LastIndexByte(text[:at], '\n'))
}
