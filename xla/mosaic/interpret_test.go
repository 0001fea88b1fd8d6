package mosaic

import (
	"fmt"
	"math"
)

// array is [batch, rows, columns].
type array struct {
	batch, rows, columns int
	data                 []float64
}

func newArray(batch, rows, columns int) array {
	return array{batch, rows, columns, make([]float64, batch*rows*columns)}
}

func (a array) at(b, r, c int) *float64 { return &a.data[(b*a.rows+r)*a.columns+c] }

// interpret runs a kernel's operations at each place of its grid, in order, as a core would. Results begin as NaN: what
// a kernel does not set shows.
func interpret(k *Kernel, operands []array) (results []array) {
	for _, b := range k.results {
		columns := b.Columns
		if b.Parted {
			columns *= k.parts
		}
		r := newArray(k.batch, b.Rows, columns)
		for i := range r.data {
			r.data[i] = math.NaN()
		}
		results = append(results, r)
	}
	arrays := append(append([]array{}, operands...), results...)
	for batch := range k.batch {
		for part := range k.parts {
			values := map[int]array{}
			for _, o := range k.ops {
				step(k, o, arrays, values, batch, part)
			}
		}
	}
	return results
}

// step runs one operation.
func step(k *Kernel, o op, arrays []array, values map[int]array, batch, part int) {
	out := newArray(1, o.out.rows, o.out.columns)
	in := make([]array, len(o.in))
	for i, v := range o.in {
		in[i] = values[v.id]
	}
	block := func(visit func(whole, own *float64), own array) {
		b := k.blocks()[o.block]
		from := 0
		if b.Parted {
			from = part * b.Columns
		}
		for r := range b.Rows {
			for c := range b.Columns {
				visit(arrays[o.block].at(batch, r, from+c), own.at(0, r, c))
			}
		}
	}
	each := func(f func(r, c int) float64) {
		for r := range out.rows {
			for c := range out.columns {
				*out.at(0, r, c) = f(r, c)
			}
		}
	}
	elements := func(f func(x, y float64) float64) {
		each(func(r, c int) float64 {
			y := 0.0
			if len(in) > 1 {
				y = *in[1].at(0, r, c)
			}
			return f(*in[0].at(0, r, c), y)
		})
	}
	switch o.name {
	case "load":
		block(func(whole, own *float64) { *own = *whole }, out)
	case "store":
		block(func(whole, own *float64) { *whole = *own }, in[0])
	case "zero":
		if part == 0 {
			block(func(whole, _ *float64) { *whole = 0 }, out)
		}
	case "dot":
		side := func(a array, axis, free, sum int) float64 {
			if axis == 0 {
				return *a.at(0, sum, free)
			}
			return *a.at(0, free, sum)
		}
		n := []int{in[0].rows, in[0].columns}[o.axes[0]]
		each(func(r, c int) (total float64) {
			for s := range n {
				total += side(in[0], o.axes[0], r, s) * side(in[1], o.axes[1], c, s)
			}
			return total
		})
	case "reduce":
		each(func(_, c int) float64 {
			total := *in[0].at(0, 0, c)
			for r := 1; r < in[0].rows; r++ {
				if x := *in[0].at(0, r, c); o.attributes == "add" {
					total += x
				} else {
					total = max(total, x)
				}
			}
			return total
		})
	case "vector.broadcast":
		each(func(_, c int) float64 { return *in[0].at(0, 0, c) })
	case "arith.addf":
		elements(func(x, y float64) float64 { return x + y })
	case "arith.subf":
		elements(func(x, y float64) float64 { return x - y })
	case "arith.mulf":
		elements(func(x, y float64) float64 { return x * y })
	case "arith.divf":
		elements(func(x, y float64) float64 { return x / y })
	case "math.exp":
		elements(func(x, _ float64) float64 { return math.Exp(x) })
	case "math.log":
		elements(func(x, _ float64) float64 { return math.Log(x) })
	case "arith.truncf":
		elements(func(x, _ float64) float64 { return bfloat16(x) })
	case "arith.extf":
		elements(func(x, _ float64) float64 { return x })
	default:
		panic(fmt.Sprintf("no operation %s", o.name))
	}
	values[o.out.id] = out
}

// bfloat16 rounds to nearest even.
func bfloat16(x float64) float64 {
	bits := math.Float32bits(float32(x))
	bits += 0x7fff + bits>>16&1
	return float64(math.Float32frombits(bits &^ 0xffff))
}
