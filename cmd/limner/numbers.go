package main

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"

	"github.com/alecthomas/kong"

	"limner/internal/numbers"
)

// numberMappers read the numbers of flags: in words, and with those below 0 behind the flag as any others.
func numberMappers() []kong.Option {
	options := []kong.Option{kong.NamedMapper("seed", &seedMapper{})}
	for kind, parse := range map[reflect.Kind]func(reflect.Value, string) error{
		reflect.Int: setInt, reflect.Int64: setInt, reflect.Uint64: setUint, reflect.Float64: setFloat,
	} {
		options = append(options, kong.KindMapper(kind, kong.MapperFunc(
			func(d *kong.DecodeContext, target reflect.Value) error {
				text, err := popNumber(d.Scan)
				if err != nil {
					return err
				}
				return parse(target, text)
			})))
	}
	return options
}

func setInt(target reflect.Value, text string) error {
	n, err := numbers.Int(text)
	target.SetInt(int64(n))
	return err
}

func setUint(target reflect.Value, text string) error {
	n, err := numbers.Uint(text)
	target.SetUint(n)
	return err
}

func setFloat(target reflect.Value, text string) error {
	x, err := numbers.Float(text)
	target.SetFloat(x)
	return err
}

// belowZero is how numbers below 0 begin, which kong takes for short flags, of which there are none but -h.
var belowZero = regexp.MustCompile(`^-\.?[0-9]`)

// popNumber is the word behind a flag.
func popNumber(s *kong.Scanner) (string, error) {
	next := s.Peek()
	switch {
	case next.IsEOL():
		return "", errors.New("want a number behind it")
	case !next.IsValue() && !belowZero.MatchString(next.String()):
		return "", fmt.Errorf("got %q, want a number", next)
	}
	return s.Pop().String(), nil
}
