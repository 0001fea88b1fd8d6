package patch

import (
	"reflect"

	"github.com/gomlx/go-xla/pkg/stablehlo"
	"github.com/gomlx/go-xla/pkg/types/shardy"
	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/xla"
	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/graph"
)

// Backend is GoMLX's XLA backend without a client: graphs are built with it, and Program writes them as text. Nothing
// can be compiled or run with it.
type Backend struct{ *xla.Backend }

// NewBackend returns a backend for graphs of programs that run on up to so many devices, of which none need be here.
func NewBackend(devices int) (Backend, error) {
	b := Backend{new(xla.Backend)}
	return b, populate(b.Backend, devices)
}

// Builder starts a program, as GoMLX asks for it when a graph is built.
func (b Backend) Builder(name string) backends.Builder {
	inner, ok := b.Backend.Builder(name).(*xla.Builder)
	if !ok {
		return nil
	}
	return &builder{Builder: inner}
}

// builder is GoMLX's builder, which can also add operations that GoMLX lacks.
type builder struct {
	*xla.Builder
	instead backends.Op // of the next Identity, see add
}

// main is the function that b is building.
func (b *builder) main() (*stablehlo.Function, error) {
	return pointer[stablehlo.Function](reflect.ValueOf(b.Builder), "fn")
}

// aliasAttribute is what XLA reads, on a parameter of main, as the output that takes over its buffer.
const aliasAttribute = "tf.aliasing_output"

// Program is the text of a graph in StableHLO. specs are how the outputs are divided in a graph with auto-sharding,
// else nil. The first outputs, as many as there are states, are written over the parameters of the same numbers, whose
// shapes and shardings they must have.
func Program(
	g *graph.Graph, outputs []*graph.Node, specs []*distributed.ShardingSpec, states int,
) ([]byte, error) {
	b, err := builderOf(g)
	if err != nil {
		return nil, err
	}
	seen := make(map[*graph.Node]bool, len(outputs))
	values := make([]*stablehlo.Value, len(outputs))
	for i, node := range outputs {
		if seen[node] {
			node = graph.Identity(node)
		}
		seen[node] = true
		if values[i], err = valueOf(node); err != nil {
			return nil, err
		}
	}
	main, err := b.main()
	if err != nil {
		return nil, err
	}
	for i, parameter := range main.Inputs[:states] {
		if parameter.Attributes == nil {
			parameter.Attributes = make(map[string]any, 1)
		}
		parameter.Attributes[aliasAttribute] = int32(i)
	}
	if err := main.ReturnWithShardingAndAttributes(values, shardyOf(main.Builder, specs), nil); err != nil {
		return nil, err
	}
	return main.Builder.Build()
}

// shardyOf are specs in go-xla's terms.
func shardyOf(program *stablehlo.Builder, specs []*distributed.ShardingSpec) []*shardy.ShardingSpec {
	all := make([]*shardy.ShardingSpec, len(specs))
	for i, spec := range specs {
		all[i] = program.NewShardingSpec()
		for _, axes := range spec.Axes {
			if len(axes) == 0 {
				all[i].AddReplicated()
			} else {
				all[i].AddShardedAxis(axes...)
			}
		}
	}
	return all
}
