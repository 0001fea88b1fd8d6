package imaging

// #cgo CFLAGS: -O3
// #include "vector.h"
//
// // Go's memory goes to C as arguments, not within a struct.
// static void resize_rows(const uint8_t *from, uint8_t *to, long stride, long size, long taps, const int32_t *first,
//     const int32_t *weights, long rows, const int32_t *pairs) {
//     resizing r = {from, to, stride, size, taps, first, weights};
//     limner_resize_rows(&r, rows, pairs);
// }
// static void resize_columns(const uint8_t *from, uint8_t *to, long stride, long size, long taps, const int32_t *first,
//     const int32_t *weights, int wide) {
//     resizing r = {from, to, stride, size, taps, first, weights};
//     limner_resize_columns(&r, wide);
// }
import "C"

import (
	"math"
	"unsafe"
)

// weightBits is the fixed point of the weights: 32 less 8 bits of a sample and 2 of headroom.
const weightBits = 32 - 8 - 2

// wideVectors says whether the processor has the vector instructions that C has code for.
var wideVectors = C.limner_resize_wide() != 0

// pass resizes in one direction. Its result i is the sum of inputs from first[i] on, times weights. All windows of
// inputs are of one size, filled up with weights of 0 on either side, which changes no sum.
type pass struct {
	begin, end int // of the inputs that are used
	taps       int
	first      []int32 // less begin
	weights    []int32 // [results, taps]
}

// newPass is the pass from in samples to out, of which those from begin to end are kept.
func newPass(in, out, begin, end int, weight func(float64) float64, support float64) pass {
	scale := float64(in) / float64(out)
	widen := max(scale, 1)
	support *= widen
	window := func(i int) (first, last int, centre float64) {
		centre = (float64(i) + 0.5) * scale
		return max(int(centre-support+0.5), 0), min(int(centre+support+0.5), in), centre
	}
	p := pass{begin: in}
	for i := begin; i < end; i++ {
		first, last, _ := window(i)
		p.begin, p.end, p.taps = min(p.begin, first), max(p.end, last), max(p.taps, last-first)
	}
	p.first, p.weights = make([]int32, end-begin), make([]int32, (end-begin)*p.taps)
	w := make([]float64, p.taps)
	for i := range p.first {
		first, last, centre := window(begin + i)
		w, sum := w[:last-first], 0.0
		for j := range w {
			w[j] = weight((float64(j+first) - centre + 0.5) * (1 / widen))
			sum += w[j]
		}
		shifted := min(first, p.end-p.taps) // so that the window ends with the inputs
		p.first[i] = int32(shifted - p.begin)
		to := p.weights[i*p.taps+first-shifted:]
		for j, v := range w {
			if sum != 0 {
				v /= sum
			}
			to[j] = int32(v*(1<<weightBits) + math.Copysign(0.5, v))
		}
	}
	return p
}

// manyTaps is the window from which on pairs take more memory than they save time.
const manyTaps = 128

// pairs are the weights as vectors take them, two pixels at a time: see vector.h. They are nil for windows of manyTaps.
func (p pass) pairs() []int32 {
	if p.taps >= manyTaps {
		return nil
	}
	const lanes = 8
	each := (p.taps + 1) / 2 * lanes
	pairs := make([]int32, len(p.first)*each)
	for i := range p.first {
		to := pairs[i*each:]
		for t, w := range p.weights[i*p.taps:][:p.taps] {
			at := t/2*lanes + t%2*3
			to[at], to[at+1], to[at+2] = w, w, w
		}
	}
	return pairs
}

// rows resizes the rows of m from top to bottom, to the pass's width.
func (p pass) rows(m *RGB, top, bottom int) *RGB {
	out := NewRGB(len(p.first), bottom-top)
	var pairs []int32
	if wideVectors {
		pairs = p.pairs()
	}
	C.resize_rows(bytesOf(m.Pix[(top*m.Width+p.begin)*3:]), bytesOf(out.Pix), C.long(m.Width*3), C.long(out.Width),
		C.long(p.taps), intsOf(p.first), intsOf(p.weights), C.long(out.Height), intsOf(pairs))
	return out
}

// columns resizes the columns of m, whose rows are those from the pass's begin to its end.
func (p pass) columns(m *RGB) *RGB {
	out := NewRGB(m.Width, len(p.first))
	var wide C.int
	if wideVectors {
		wide = 1
	}
	C.resize_columns(bytesOf(m.Pix), bytesOf(out.Pix), C.long(m.Width*3), C.long(out.Height), C.long(p.taps),
		intsOf(p.first), intsOf(p.weights), wide)
	return out
}

func bytesOf(s []uint8) *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(s)) }

func intsOf(s []int32) *C.int32_t { return (*C.int32_t)(unsafe.SliceData(s)) }
