package xla

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"limner/xla/pjrt"
)

// largestShown is how many layers TooLarge names.
const largestShown = 3

// TooLarge is the error of a program that does not fit a planned device's memory.
type TooLarge struct {
	Refusal *pjrt.Error // the compiler's
	Largest []Tensor    // the layers with the largest ones, one of each
}

// Tensor is a result of an operation, before the compiler merged operations: it may not be in memory at all.
type Tensor struct {
	Layer string  `json:"layer"` // see Traffic; "" of none
	Type  string  `json:"type"`  // of the whole, as StableHLO writes it: 4x64x64x320xbf16
	Bytes float64 `json:"bytes"` // on one device, if the first axis is divided where it can be
}

func (t Tensor) String() string {
	layer := t.Layer
	if layer == "" {
		layer = "no layer of a network"
	}
	return fmt.Sprintf("%.2f GB %s in %s", t.Bytes/1e9, t.Type, layer)
}

func (e *TooLarge) Error() string {
	text := e.Refusal.Text
	for _, t := range e.Largest {
		text += "\nlarge: " + t.String()
	}
	return text
}

func (e *TooLarge) Unwrap() error { return e.Refusal }

// tooLarge is an error of compiling a program as a TooLarge if it says that the program does not fit, and the error itself otherwise.
func tooLarge(err error, program []statement, devices int) error {
	var refusal *pjrt.Error
	if errors.As(err, &refusal) && refusal.Code == pjrt.ResourceExhausted {
		return &TooLarge{refusal, largest(program, devices)}
	}
	return err
}

// result is the end of an operation with one result.
var result = regexp.MustCompile(`-> tensor<([^>]*x([a-z]+[0-9]+))>\n?$`)

// largest are the layers of a program with the largest tensors, the largest of each, in the order of their sizes.
func largest(program []statement, devices int) []Tensor {
	byLayer := map[string]Tensor{}
	for _, s := range live(program) {
		m := result.FindStringSubmatch(s.text)
		if m == nil {
			continue
		}
		dims, err := hloDims(m[1])
		if err != nil {
			continue
		}
		t := Tensor{Layer: s.layer, Type: m[1], Bytes: elementBytes[strings.TrimLeft(m[2], "uis")]}
		for i, dim := range dims {
			if i == 0 && dim%devices == 0 {
				dim /= devices
			}
			t.Bytes *= float64(dim)
		}
		if t.Bytes > byLayer[t.Layer].Bytes {
			byLayer[t.Layer] = t
		}
	}
	var all []Tensor
	for _, t := range byLayer {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Tensor) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Layer, b.Layer)) })
	return all[:min(len(all), largestShown)]
}

// elementBytes are the sizes of StableHLO's element types, without the sign of integers.
var elementBytes = map[string]float64{"1": 1, "8": 1, "16": 2, "32": 4, "64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8}
