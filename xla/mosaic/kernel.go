// Package mosaic writes kernels for the cores of a TPU, in the text of Mosaic, the compiler beneath Pallas: a kernel's
// intermediate values are never in the chip's main memory.
package mosaic

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// Type is the type of an element.
type Type string

const (
	F32  Type = "f32"
	BF16 Type = "bf16"
)

func (t Type) bytes() int {
	if t == F32 {
		return 4
	}
	return 2
}

// Block is the part of an operand or a result [batch, rows, columns] that a kernel has at each point of its grid (row
// of the batch, part of the columns): all rows, and all columns or the part's.
type Block struct {
	Type          Type
	Rows, Columns int  // of the block
	Parted        bool // the columns are those of the part
}

func (b Block) memref() string {
	return fmt.Sprintf("memref<1x%dx%dx%s, #tpu.memory_space<vmem>>", b.Rows, b.Columns, b.Type)
}

// bytes is the size of the whole array for a grid of the given size.
func (b Block) bytes(batch, parts int) int {
	if !b.Parted {
		parts = 1
	}
	return batch * parts * b.Rows * b.Columns * b.Type.bytes()
}

// Kernel is a kernel under construction. Its methods add operations, whose values are matrices.
type Kernel struct {
	name           string
	batch, parts   int // the grid
	operands       []Block
	results        []Block
	ops            []op
	values         int
	flops          float64 // of one point of the grid
	transcendental float64
}

// op is one operation.
type op struct {
	name       string
	attributes string
	in         []Value
	out        Value // zero if there is none
	block      int   // of a load or a store
	axes       [2]int
}

// Value is a matrix [rows, columns] in the core's vector memory.
type Value struct {
	id            int
	kind          Type
	rows, columns int
}

func (v Value) vector() string { return fmt.Sprintf("vector<%dx%dx%s>", v.rows, v.columns, v.kind) }

func (v Value) String() string { return fmt.Sprintf("%%v%d", v.id) }

// New starts a kernel that runs at each point of a grid.
func New(name string, batch, parts int, operands, results []Block) *Kernel {
	return &Kernel{name: name, batch: batch, parts: parts, operands: operands, results: results}
}

func (k *Kernel) value(kind Type, rows, columns int) Value {
	k.values++
	return Value{k.values, kind, rows, columns}
}

func (k *Kernel) add(name, attributes string, out Value, in ...Value) Value {
	k.ops = append(k.ops, op{name: name, attributes: attributes, in: in, out: out})
	return out
}

// blocks are the operands, then the results.
func (k *Kernel) blocks() []Block { return slices.Concat(k.operands, k.results) }

// Load reads a block: i counts operands, then results.
func (k *Kernel) Load(i int) Value {
	b := k.blocks()[i]
	out := k.value(b.Type, b.Rows, b.Columns)
	k.ops = append(k.ops, op{name: "load", out: out, block: i})
	return out
}

// Store writes a block of a result: i counts operands, then results.
func (k *Kernel) Store(i int, v Value) {
	k.ops = append(k.ops, op{name: "store", in: []Value{v}, block: i})
}

// Accumulate adds v to a block that all parts share; before the first part it is 0.
func (k *Kernel) Accumulate(i int, v Value) { k.Store(i, k.Add(k.Load(i), v)) }

// Zero sets a block to 0 at the first part.
func (k *Kernel) Zero(i int) {
	b := k.blocks()[i]
	k.ops = append(k.ops, op{name: "zero", block: i, out: k.value(b.Type, b.Rows, b.Columns)})
}

// Dot multiplies a and b, summing over axis i of a and axis j of b, in float32.
func (k *Kernel) Dot(a Value, i int, b Value, j int) Value {
	side := func(v Value, axis int) int { return []int{v.rows, v.columns}[axis] }
	out := k.value(F32, side(a, 1-i), side(b, 1-j))
	if side(a, i) != side(b, j) {
		panic(fmt.Sprintf("mosaic: product of %s and %s over axes %d and %d", a.vector(), b.vector(), i, j))
	}
	k.flops += 2 * float64(out.rows) * float64(out.columns) * float64(side(a, i))
	k.ops = append(k.ops, op{name: "dot", in: []Value{a, b}, out: out, axes: [2]int{i, j}})
	return out
}

// The operations on elements. The second of two operands may have a single row, which is broadcast.
func (k *Kernel) Add(a, b Value) Value { return k.binary("arith.addf", a, b) }
func (k *Kernel) Sub(a, b Value) Value { return k.binary("arith.subf", a, b) }
func (k *Kernel) Mul(a, b Value) Value { return k.binary("arith.mulf", a, b) }
func (k *Kernel) Div(a, b Value) Value { return k.binary("arith.divf", a, b) }
func (k *Kernel) Exp(a Value) Value    { return k.unary("math.exp", a) }
func (k *Kernel) Log(a Value) Value    { return k.unary("math.log", a) }

const exact = "fastmath = #arith.fastmath<none>"

func (k *Kernel) binary(name string, a, b Value) Value {
	if b.rows == 1 && a.rows > 1 {
		b = k.add("vector.broadcast", "", k.value(b.kind, a.rows, b.columns), b)
	}
	return k.add(name, exact, k.value(a.kind, a.rows, a.columns), a, b)
}

func (k *Kernel) unary(name string, a Value) Value {
	k.transcendental += float64(a.rows) * float64(a.columns)
	return k.add(name, exact, k.value(a.kind, a.rows, a.columns), a)
}

// Narrow rounds to bfloat16.
func (k *Kernel) Narrow(a Value) Value {
	return k.add("arith.truncf", "", k.value(BF16, a.rows, a.columns), a)
}

// Widen converts to float32.
func (k *Kernel) Widen(a Value) Value {
	return k.add("arith.extf", "", k.value(F32, a.rows, a.columns), a)
}

// Max and Sum reduce the rows to one.
func (k *Kernel) Max(a Value) Value { return k.reduce("maximumf", a) }
func (k *Kernel) Sum(a Value) Value { return k.reduce("add", a) }

func (k *Kernel) reduce(kind string, a Value) Value {
	out := k.value(a.kind, 1, a.columns)
	k.ops = append(k.ops, op{name: "reduce", attributes: kind, in: []Value{a}, out: out})
	return out
}

// Config is the configuration of the custom call tpu_custom_call that runs the kernel, as JSON.
func (k *Kernel) Config() string {
	grid := float64(k.batch * k.parts)
	moved := 0
	for _, b := range k.blocks() {
		moved += b.bytes(k.batch, k.parts)
	}
	return fmt.Sprintf(`{"custom_call_config": {"body": "%s", "cost_estimate": {"flops": %.0f, "transcendentals": %.0f, "bytes_accessed": %d, "remote_bytes_transferred": 0}, "serialization_format": 1, "needs_layout_passes": true}}`,
		base64.StdEncoding.EncodeToString([]byte(k.Text())), grid*k.flops, grid*k.transcendental, moved)
}

// FLOPs counts the operations of the kernel's products over the whole grid.
func (k *Kernel) FLOPs() float64 { return float64(k.batch*k.parts) * k.flops }

// Text is the kernel in Mosaic's stable dialect.
func (k *Kernel) Text() string {
	var w writer
	w.line(`"builtin.module"() ({`)
	w.function(k)
	for i, b := range k.blocks() {
		w.transform(i, b)
	}
	w.line(`}) {stable_mosaic.version = 15 : i64} : () -> ()`)
	return w.String()
}

// writer writes operations in MLIR's generic form.
type writer struct {
	strings.Builder
	names int
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// fresh is a new name for a value that no Value stands for.
func (w *writer) fresh() string {
	w.names++
	return fmt.Sprintf("%%t%d", w.names)
}

// constant writes a constant and returns its name.
func (w *writer) constant(value, kind string) string {
	name := w.fresh()
	w.line(`%s = "stable_mosaic.arith.constant"() {value = %s : %s} : () -> %s`, name, value, kind, kind)
	return name
}

// apply writes an operation of one result.
func (w *writer) apply(out, name string, in []string, attributes string, kinds []string, kind string) {
	if attributes != "" {
		attributes = " {" + attributes + "}"
	}
	w.line(`%s = "stable_mosaic.%s"(%s)%s : (%s) -> %s`,
		out, name, strings.Join(in, ", "), attributes, strings.Join(kinds, ", "), kind)
}

func (w *writer) function(k *Kernel) {
	args, kinds := []string{"%g0: i32", "%g1: i32"}, []string{"i32", "i32"}
	var windows []string
	for i, b := range k.blocks() {
		args = append(args, fmt.Sprintf("%%b%d: %s", i, b.memref()))
		kinds = append(kinds, b.memref())
		windows = append(windows,
			fmt.Sprintf("{transform_indices = @transform_%d, window_bounds = array<i64: 1, %d, %d>}",
				i, b.Rows, b.Columns))
	}
	w.line(`"stable_mosaic.func.func"() ({`)
	w.line(`^bb0(%s):`, strings.Join(args, ", "))
	for _, o := range k.ops {
		w.op(k, o)
	}
	w.line(`"stable_mosaic.func.return"() : () -> ()`)
	w.line(`}) {dimension_semantics = [#tpu.dimension_semantics<parallel>, #tpu.dimension_semantics<arbitrary>], function_type = (%s) -> (), iteration_bounds = array<i64: %d, %d>, scalar_prefetch = 0 : i64, scratch_operands = 0 : i64, sym_name = "%s", tpu.core_type = #tpu.core_type<tc>, window_params = [%s]} : () -> ()`,
		strings.Join(kinds, ", "), k.batch, k.parts, k.name, strings.Join(windows, ", "))
}

// transform writes the function that maps a point of the grid to its block of an array.
func (w *writer) transform(i int, b Block) {
	w.line(`"stable_mosaic.func.func"() ({`)
	w.line(`^bb0(%%g0: i32, %%g1: i32):`)
	zero := w.constant("0", "i32")
	column := zero
	if b.Parted {
		column = "%g1"
	}
	w.line(`"stable_mosaic.func.return"(%%g0, %s, %s) : (i32, i32, i32) -> ()`, zero, column)
	w.line(`}) {function_type = (i32, i32) -> (i32, i32, i32), sym_name = "transform_%d"} : () -> ()`, i)
}

func (w *writer) op(k *Kernel, o op) {
	vector := func(v Value) string { return v.vector() }
	switch o.name {
	case "load":
		b := k.blocks()[o.block]
		whole, at := w.fresh(), w.constant("0", "index")
		full := fmt.Sprintf("vector<1x%dx%dx%s>", b.Rows, b.Columns, b.Type)
		w.apply(whole, "vector.load", []string{fmt.Sprintf("%%b%d", o.block), at, at, at}, "",
			[]string{b.memref(), "index", "index", "index"}, full)
		w.apply(o.out.String(), "vector.shape_cast", []string{whole}, "", []string{full}, vector(o.out))
	case "store":
		w.store(k, o.block, o.in[0].String(), vector(o.in[0]))
	case "zero":
		first := w.fresh()
		w.apply(first, "arith.cmpi", []string{"%g1", w.constant("0", "i32")}, "predicate = 0 : i64",
			[]string{"i32", "i32"}, "i1")
		w.line(`"stable_mosaic.scf.if"(%s) ({`, first)
		w.store(k, o.block, w.constant("dense<0.000000e+00>", vector(o.out)), vector(o.out))
		w.line(`"stable_mosaic.scf.yield"() : () -> ()`)
		w.line(`}, {`)
		w.line(`"stable_mosaic.scf.yield"() : () -> ()`)
		w.line(`}) : (i1) -> ()`)
	case "dot":
		i, j := o.axes[0], o.axes[1]
		sums := w.constant("dense<0.000000e+00>", vector(o.out))
		attributes := fmt.Sprintf("dimension_numbers = #tpu.dot_dimension_numbers<[%d], [%d], [%d], [%d], "+
			"[0, %d, 1, %d], [], []>, transpose_lhs = false, transpose_lhs_hint = false, transpose_rhs = false",
			i, j, 1-i, 1-j, 1-i, 1-j)
		w.apply(o.out.String(), "tpu.matmul", []string{o.in[0].String(), o.in[1].String(), sums}, attributes,
			[]string{vector(o.in[0]), vector(o.in[1]), vector(o.out)}, vector(o.out))
	case "reduce":
		flat, row := fmt.Sprintf("vector<%dx%s>", o.out.columns, o.out.kind), w.fresh()
		start := "dense<0.000000e+00>"
		if o.attributes == "maximumf" {
			start = "dense<0xFF800000>"
		}
		attributes := fmt.Sprintf("kind = #vector.kind<%s>, reduction_dims = array<i64: 0>", o.attributes)
		w.apply(row, "vector.multi_reduction", []string{o.in[0].String(), w.constant(start, flat)}, attributes,
			[]string{vector(o.in[0]), flat}, flat)
		w.apply(o.out.String(), "vector.shape_cast", []string{row}, "", []string{flat}, vector(o.out))
	default:
		var in, kinds []string
		for _, v := range o.in {
			in, kinds = append(in, v.String()), append(kinds, vector(v))
		}
		w.apply(o.out.String(), o.name, in, o.attributes, kinds, vector(o.out))
	}
}

// store writes a matrix to a block.
func (w *writer) store(k *Kernel, block int, value, kind string) {
	b := k.blocks()[block]
	whole, at := w.fresh(), w.constant("0", "index")
	full := fmt.Sprintf("vector<1x%dx%dx%s>", b.Rows, b.Columns, b.Type)
	w.apply(whole, "vector.shape_cast", []string{value}, "", []string{kind}, full)
	w.line(`"stable_mosaic.tpu.vector_store"(%s, %%b%d, %s, %s, %s) {add = false, operandSegmentSizes = array<i32: 1, 1, 3, 0>, strides = array<i32>} : (%s, %s, index, index, index) -> ()`,
		whole, block, at, at, at, full, b.memref())
}
