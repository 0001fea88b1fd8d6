package hlo

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// largestShown is how many layers Largest names.
const largestShown = 3

// Tensor is the result of an operation before the compiler fuses operations: it may never be in memory.
type Tensor struct {
	Layer string  `json:"layer"` // see Traffic; "" of none
	Type  string  `json:"type"`  // of all devices together, in StableHLO's syntax: 4x64x64x320xbf16
	Bytes float64 `json:"bytes"` // on one device, if the first axis is divided over devices where possible
}

func (t Tensor) String() string {
	layer := t.Layer
	if layer == "" {
		layer = "no layer of a network"
	}
	return fmt.Sprintf("%.2f GB %s in %s", t.Bytes/1e9, t.Type, layer)
}

// result is the end of an operation with one result.
var result = regexp.MustCompile(`-> tensor<([^>]*x([a-z]+[0-9]+))>\n?$`)

// Largest lists the largest tensor of each of the layers with the largest ones, by size.
func Largest(program []Statement, devices int) []Tensor {
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
	slices.SortFunc(all, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Layer, b.Layer))
	})
	return all[:min(len(all), largestShown)]
}

// elementBytes are the sizes of StableHLO's element types, without the sign of integers.
var elementBytes = map[string]float64{
	"1": 1, "8": 1, "16": 2, "32": 4, "64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8,
}
