package safetensors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"
)

// metadataKey is the one header entry that is not a tensor.
const metadataKey = "__metadata__"

// MaxRank is numpy's limit, for tensors of every format: a file with more axes is an attack on whatever prints them.
const MaxRank = 64

// info is a tensor's entry in the header. Offsets count from the end of the header.
type info struct {
	dtype      string
	shape      []int
	begin, end uint64
}

type header struct {
	metadata map[string]string
	infos    map[string]info
}

// parseHeader decodes the JSON of a header. Fields of a tensor beyond the three known ones are
// passed over; anything else unexpected, duplicate keys included, is an error.
func parseHeader(raw []byte) (*header, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("not UTF-8 text")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(raw, &whole); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if err := checkSurrogates(raw); err != nil {
		return nil, err
	}
	h := &header{infos: map[string]info{}}
	seenMetadata := false
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	err := eachField(dec, func(key string) error {
		if key == metadataKey {
			if seenMetadata {
				return errors.New("appears twice")
			}
			seenMetadata = true
			var err error
			h.metadata, err = parseMetadata(dec)
			return err
		}
		if _, ok := h.infos[key]; ok {
			return errors.New("appears twice")
		}
		t, err := parseInfo(dec)
		h.infos[key] = t
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// parseMetadata decodes the free text. If a key appears twice the last one counts, as in the reference.
func parseMetadata(dec *json.Decoder) (map[string]string, error) {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return nil, err
	}
	if bytes.Equal(raw, []byte("null")) {
		return nil, nil
	}
	m := map[string]string{}
	inner := json.NewDecoder(bytes.NewReader(raw))
	err := eachField(inner, func(key string) error {
		token, err := inner.Token()
		if err != nil {
			return err
		}
		s, ok := token.(string)
		if !ok {
			return fmt.Errorf("is %v, want a string", token)
		}
		m[key] = s
		return nil
	})
	return m, err
}

func parseInfo(dec *json.Decoder) (info, error) {
	var t info
	seen := map[string]bool{}
	err := eachField(dec, func(key string) error {
		var err error
		switch key {
		case "dtype", "shape", "data_offsets":
			if seen[key] {
				return errors.New("appears twice")
			}
			seen[key] = true
		}
		switch key {
		case "dtype":
			if err = dec.Decode(&t.dtype); err != nil {
				return errors.New("is no string")
			}
			if _, ok := dtypes[t.dtype]; !ok {
				return fmt.Errorf("is %q, which the format does not know", t.dtype)
			}
		case "shape":
			var dims []uint64
			if dims, err = parseNumbers(dec); err != nil {
				return err
			}
			t.shape = make([]int, len(dims))
			for i, d := range dims {
				if d > math.MaxInt {
					return fmt.Errorf("dimension %d is too large", d)
				}
				t.shape[i] = int(d)
			}
		case "data_offsets":
			var at []uint64
			if at, err = parseNumbers(dec); err != nil {
				return err
			}
			if len(at) != 2 {
				return fmt.Errorf("has %d numbers, want 2", len(at))
			}
			t.begin, t.end = at[0], at[1]
		default:
			var skipped json.RawMessage
			return dec.Decode(&skipped)
		}
		return nil
	})
	if err != nil {
		return info{}, err
	}
	for _, field := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[field] {
			return info{}, fmt.Errorf("%s is missing", field)
		}
	}
	return t, nil
}

// parseNumbers decodes an array of at most MaxRank whole numbers from 0 up, written without point or exponent. It stops
// reading at the limit.
func parseNumbers(dec *json.Decoder) ([]uint64, error) {
	switch token, err := dec.Token(); {
	case err != nil:
		return nil, err
	case token == nil:
		return nil, errors.New("is null, want an array")
	case token != json.Delim('['):
		return nil, errors.New("is no array")
	}
	out := []uint64{}
	for dec.More() {
		if len(out) == MaxRank {
			return nil, fmt.Errorf("has more than %d numbers", MaxRank)
		}
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		n, ok := token.(json.Number)
		if !ok {
			return nil, fmt.Errorf("holds %v, want whole numbers", token)
		}
		u, err := strconv.ParseUint(n.String(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("holds %s, want whole numbers below 2^64", n)
		}
		out = append(out, u)
	}
	_, err := dec.Token()
	return out, err
}

// eachField calls visit with every key of the next object; visit must consume the value.
func eachField(dec *json.Decoder, visit func(key string) error) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return fmt.Errorf("got %v, want an object", token)
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return fmt.Errorf("got %v, want a key", token)
		}
		if err := visit(key); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%q: %w", key, err)
		}
	}
	_, err = dec.Token()
	return err
}

// checkSurrogates rejects \u escapes that are half of a pair: Go's decoder would replace them in
// silence and so could make two keys one. raw is valid JSON.
func checkSurrogates(raw []byte) error {
	unit := func(i int) (uint64, bool) { // the \uXXXX at i
		if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return 0, false
		}
		u, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		return u, err == nil
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		u, ok := unit(i)
		switch {
		case !ok:
			i++
		case u < 0xd800 || u > 0xdfff:
			i += 5
		default:
			low, ok := unit(i + 6)
			if u > 0xdbff || !ok || low < 0xdc00 || low > 0xdfff {
				return fmt.Errorf(`a string holds \u%04x, half of a surrogate pair`, u)
			}
			i += 11
		}
	}
	return nil
}

// validate checks that the tensors tile the data without holes or overlap and that each fills its
// bytes, and returns the data's size.
func (h *header) validate() (uint64, error) {
	keys := make([]string, 0, len(h.infos))
	for key := range h.infos {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	slices.SortStableFunc(keys, func(a, b string) int {
		x, y := h.infos[a], h.infos[b]
		if x.begin != y.begin {
			return cmp.Compare(x.begin, y.begin)
		}
		return cmp.Compare(x.end, y.end)
	})
	var at uint64
	for _, key := range keys {
		t := h.infos[key]
		if t.end < t.begin {
			return 0, fmt.Errorf("tensor %q: ends at byte %d, before its start at %d", key, t.end, t.begin)
		}
		if t.begin < at {
			return 0, fmt.Errorf("tensor %q: starts at byte %d, inside the one before it, which ends at %d",
				key, t.begin, at)
		}
		if t.begin > at {
			return 0, fmt.Errorf("tensor %q: starts at byte %d and leaves a hole from %d", key, t.begin, at)
		}
		want, err := ByteSize(t.dtype, t.shape)
		if err != nil {
			return 0, fmt.Errorf("tensor %q: %w", key, err)
		}
		if got := t.end - t.begin; got != want {
			return 0, fmt.Errorf("tensor %q: got %d bytes, want %d for %s %v", key, got, want, t.dtype, t.shape)
		}
		at = t.end
	}
	return at, nil
}

// ByteSize is the number of bytes that a tensor takes.
func ByteSize(dtype string, shape []int) (uint64, error) {
	d, ok := dtypes[dtype]
	if !ok {
		return 0, fmt.Errorf("unknown dtype %q", dtype)
	}
	n := uint64(1)
	for _, dim := range append(slices.Clone(shape), d.bits) {
		if dim < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		hi, lo := bits.Mul64(n, uint64(dim))
		if hi != 0 {
			return 0, fmt.Errorf("the size of %s %v overflows", dtype, shape)
		}
		n = lo
	}
	if n%8 != 0 {
		return 0, fmt.Errorf("%s %v does not end at a whole byte", dtype, shape)
	}
	return n / 8, nil
}
