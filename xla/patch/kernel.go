package patch

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/gomlx/go-xla/pkg/stablehlo"
	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/xla"
	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// Kernel calls a kernel for a TPU's cores, which GoMLX has no operation for. config gives the kernel's configuration
// for one of so many devices, over which the first axes of operands and results are divided. All have three axes. No
// gradient flows through the results. It panics as building a graph does.
func Kernel(name string, config func(devices int) string, operands []*graph.Node,
	results []shapes.Shape) []*graph.Node {
	return add("CustomCall", operands, results, func(devices int) map[string]any {
		// One attribute whose text goes on with the others keeps the statement in one line, which ManualKernels reads.
		return map[string]any{
			"api_version": literal(fmt.Sprintf("1 : i32, call_target_name = \"tpu_custom_call\", "+
				"backend_config = %s, kernel_name = %q, %s",
				strconv.Quote(config(devices)), name, layouts(shapesOf(operands), results))),
		}
	})
}

// Call calls a function that is registered with the plugin, which GoMLX has no operation for, for the result of one
// program on one device. attributes are the text of a dictionary in StableHLO. No gradient flows through the result. It
// panics as building a graph does.
func Call(function, attributes string, operands []*graph.Node, result shapes.Shape) *graph.Node {
	return add("CustomCall", operands, []shapes.Shape{result}, func(int) map[string]any {
		return map[string]any{
			"api_version": literal(fmt.Sprintf("4 : i32, call_target_name = %q, backend_config = %s, %s",
				function, attributes, layouts(shapesOf(operands), []shapes.Shape{result}))),
		}
	})[0]
}

// layouts are the attributes that lay out all operands and results of a call row by row.
func layouts(operands, results []shapes.Shape) string {
	list := func(all []shapes.Shape) string {
		layouts := make([]string, len(all))
		for i, shape := range all {
			axes := make([]string, shape.Rank())
			for axis := range axes {
				axes[axis] = strconv.Itoa(len(axes) - 1 - axis)
			}
			layouts[i] = fmt.Sprintf("dense<[%s]> : tensor<%dxindex>", strings.Join(axes, ", "), len(axes))
		}
		return "[" + strings.Join(layouts, ", ") + "]"
	}
	return fmt.Sprintf("operand_layouts = %s, result_layouts = %s", list(operands), list(results))
}

func shapesOf(nodes []*graph.Node) []shapes.Shape {
	all := make([]shapes.Shape, len(nodes))
	for i, node := range nodes {
		all[i] = node.Shape()
	}
	return all
}

// Barrier returns its operands in such a way that the compiler computes each once for all its uses: otherwise it
// computes a cheap value anew in each. No gradient flows through it. It panics as building a graph does.
func Barrier(operands ...*graph.Node) []*graph.Node {
	return add("OptimizationBarrier", operands, shapesOf(operands), func(int) map[string]any { return nil })
}

// add adds an operation that GoMLX lacks, by go-xla's name. attributes are those for so many devices.
func add(operation string, operands []*graph.Node, results []shapes.Shape,
	attributes func(devices int) map[string]any) []*graph.Node {
	g := operands[0].Graph()
	b, err := builderOf(g)
	if err != nil {
		panic(err)
	}
	devices := 1
	if g.DistributedStrategy() == distributed.AutoSharding {
		devices = g.NumDevices()
	}
	ops, err := b.add(operation, operands, results, attributes(devices))
	if err != nil {
		panic(fmt.Errorf("add %s: %w", operation, err))
	}
	nodes := make([]*graph.Node, len(ops))
	for i := range ops {
		// GoMLX takes any operation as the result of Identity, with the shape that the builder gives it.
		b.instead = ops[i]
		nodes[i] = graph.StopGradient(graph.Identity(operands[0]))
	}
	return nodes
}

// builderOf is the builder of a graph of a Backend.
func builderOf(g *graph.Graph) (*builder, error) {
	f, err := field(reflect.ValueOf(g), "builder", reflect.Interface)
	if err != nil {
		return nil, err
	}
	if f.Elem().Type() != reflect.TypeFor[*builder]() {
		return nil, fmt.Errorf("the graph's builder is a %s, want that of a patch.Backend", f.Elem().Type())
	}
	return (*builder)(f.Elem().UnsafePointer()), nil
}

// Identity returns its operand or, for add, what stands in for it.
func (b *builder) Identity(x backends.Op) (backends.Op, error) {
	if op := b.instead; op != nil {
		b.instead = nil
		return op, nil
	}
	return b.Builder.Identity(x)
}

// literal is an attribute's text.
type literal string

// ToStableHLO returns the text.
func (l literal) ToStableHLO() string { return string(l) }

// add adds the operation and returns its results.
func (b *builder) add(operation string, operands []*graph.Node, results []shapes.Shape,
	attributes map[string]any) ([]backends.Op, error) {
	main, err := b.main()
	if err != nil {
		return nil, err
	}
	added := &stablehlo.Statement{Builder: main.Builder, Function: main, Attributes: attributes}
	if err := setType(added, operation); err != nil {
		return nil, err
	}
	for _, node := range operands {
		value, err := valueOf(node)
		if err != nil {
			return nil, err
		}
		added.Inputs = append(added.Inputs, value)
	}
	var ops []backends.Op
	for _, shape := range results {
		// Only an operation can create a value: it is removed again.
		op, err := b.Iota(shape, 0)
		if err != nil {
			return nil, err
		}
		iota := main.Statements[len(main.Statements)-1]
		main.Statements = main.Statements[:len(main.Statements)-1]
		added.Outputs = append(added.Outputs, iota.Outputs...)
		ops = append(ops, op)
	}
	main.Statements = append(main.Statements, added)
	return ops, nil
}

// setType sets the type of a statement, whose constants are go-xla's own.
func setType(s *stablehlo.Statement, operation string) error {
	const types = 256
	for i := range types {
		kind := reflect.ValueOf(s).Elem().FieldByName("OpType")
		kind.SetInt(int64(i))
		if fmt.Sprint(kind) == operation {
			return nil
		}
	}
	return fmt.Errorf("go-xla knows no %s: use the pinned version", operation)
}

// valueOf is a node's value in the program.
func valueOf(node *graph.Node) (*stablehlo.Value, error) {
	ops, err := field(reflect.ValueOf(node), "outputOps", reflect.Slice)
	if err != nil {
		return nil, err
	}
	if ops.Len() != 1 {
		return nil, fmt.Errorf("a node with %d results as operand", ops.Len())
	}
	op := ops.Index(0)
	if got, want := op.Elem().Type(), reflect.TypeFor[*xla.Node](); got != want {
		return nil, fmt.Errorf("operation is a %s, want %s", got, want)
	}
	return pointer[stablehlo.Value](op, "value")
}

// kernelCall is a statement that kernel wrote.
var kernelCall = regexp.MustCompile(`(?m)^( *)((?:%\S+(?:, )?)+) = "stablehlo\.custom_call"\(([^)]*)\) (\{ api_version = 1 : i32, call_target_name = "tpu_custom_call".*\}) : \(([^)]*)\) -> (.*)$`)

var (
	meshes      = regexp.MustCompile(`sdy\.mesh @(\w+) = <\["(\w+)"=(\d+)\]>`)
	tensorTypes = regexp.MustCompile(`tensor<(\d+)x([^>]*)>`)
)

// ManualKernels divides the calls to kernels in a program's text over the devices of its mesh: XLA's partitioner would
// give the whole to each. Programs without a mesh or kernels stay as they are.
func ManualKernels(program []byte) []byte {
	mesh := meshes.FindSubmatch(program)
	if mesh == nil {
		return program
	}
	devices, err := strconv.Atoi(string(mesh[3]))
	if err != nil {
		return program
	}
	n := 0
	return kernelCall.ReplaceAllFunc(program, func(line []byte) []byte {
		m := kernelCall.FindSubmatch(line)
		indent, outs, ins, attributes := string(m[1]), string(m[2]), strings.Split(string(m[3]), ", "), string(m[4])
		inTypes, outTypes := tensorTypes.FindAllStringSubmatch(string(m[5]), -1),
			tensorTypes.FindAllStringSubmatch(string(m[6]), -1)
		shard := func(types [][]string) (local []string, shardings string) {
			var list []string
			for _, t := range types {
				rows, _ := strconv.Atoi(t[1])
				local = append(local, fmt.Sprintf("tensor<%dx%s>", rows/devices, t[2]))
				list = append(list, fmt.Sprintf(`<@%s, [{"%s"}, {}, {}]>`, mesh[1], mesh[2]))
			}
			return local, "#sdy.sharding_per_value<[" + strings.Join(list, ", ") + "]>"
		}
		inLocal, inShardings := shard(inTypes)
		outLocal, outShardings := shard(outTypes)
		n++
		var args, names, results []string
		for i := range ins {
			names = append(names, fmt.Sprintf("%%kernel%d_%d", n, i))
			args = append(args, names[i]+": "+inLocal[i])
		}
		for i := range outLocal {
			results = append(results, fmt.Sprintf("%%kernel%d_out%d", n, i))
		}
		list := func(parts []string) string { return strings.Join(parts, ", ") }
		return fmt.Appendf(nil, `%s%s = "sdy.manual_computation"(%s) <{in_shardings = %s, manual_axes = #sdy<manual_axes{"%s"}>, out_shardings = %s}> ({
%[1]s^bb0(%[7]s):
%[1]s  %[8]s = "stablehlo.custom_call"(%[9]s) %[10]s : (%[11]s) -> (%[12]s)
%[1]s  "sdy.return"(%[8]s) : (%[12]s) -> ()
%[1]s}) : (%[13]s) -> (%[14]s)`, indent, outs, list(ins), inShardings, mesh[2], outShardings,
			list(args), list(results), list(names), attributes, list(inLocal), list(outLocal), m[5],
			strings.Trim(string(m[6]), "()"))
	})
}
