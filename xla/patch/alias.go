package patch

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/xla"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/pjrt"
)

// aliasAttribute is what XLA reads, on a parameter of main, as the output that takes over its buffer.
const aliasAttribute = "tf.aliasing_output"

// builder is GoMLX's builder that marks the aliased parameters before it compiles.
type builder struct {
	*xla.Builder
	owner   *Backend
	program string

	parameters []parameter
	sharded    bool
	devices    int         // of the meshes; 0 without
	instead    backends.Op // of the next Identity, see Kernel
}

// parameter is what is checked of a parameter before it is aliased.
type parameter struct {
	name  string
	shape shapes.Shape
	spec  *backends.ShardingSpec
}

// Parameter adds a parameter to the program and notes its shape and sharding.
func (b *builder) Parameter(name string, shape shapes.Shape, spec *backends.ShardingSpec) (backends.Op, error) {
	op, err := b.Builder.Parameter(name, shape, spec)
	if err == nil {
		b.parameters = append(b.parameters, parameter{name: name, shape: shape, spec: spec})
	}
	return op, err
}

// DistributedAutoSharding lets XLA partition the program over the meshes.
func (b *builder) DistributedAutoSharding(meshes ...backends.Mesh) error {
	b.sharded = true
	for _, mesh := range meshes {
		n := 1
		for _, size := range mesh.AxesSizes {
			n *= size
		}
		b.devices = max(b.devices, n)
	}
	return b.Builder.DistributedAutoSharding(meshes...)
}

// Compile marks the aliased parameters, compiles the program and remembers its text and memory.
func (b *builder) Compile(outputs []backends.Op, specs []*backends.ShardingSpec) (backends.Executable, error) {
	if err := b.alias(outputs, specs); err != nil {
		return nil, fmt.Errorf("compile %q: %w", b.program, err)
	}
	executable, err := b.Builder.Compile(outputs, specs)
	if err != nil {
		return nil, err
	}
	p, err := b.inspect(executable)
	if err == nil && b.sharded && b.owner.local > 0 {
		err = restrict(executable, b.owner.local)
	}
	if err != nil {
		executable.Finalize()
		return nil, fmt.Errorf("inspect %q: %w", b.program, err)
	}
	b.owner.remember(b.program, p)
	return executable, nil
}

// alias sets the attribute on the parameters that were announced for this program.
func (b *builder) alias(outputs []backends.Op, specs []*backends.ShardingSpec) error {
	outputOf := b.owner.takeAliases(b.program)
	if len(outputOf) == 0 {
		return nil
	}
	main, err := mainFunction(b.Builder)
	if err != nil {
		return err
	}
	if got, want := len(main.Inputs), len(b.parameters); got != want {
		return fmt.Errorf("the program has %d inputs, but %d parameters were made", got, want)
	}
	taken := make(map[int]int, len(outputOf))
	for input, output := range outputOf {
		if err := b.check(input, output, outputs, specs); err != nil {
			return err
		}
		if other, ok := taken[output]; ok {
			return fmt.Errorf("parameters %d and %d are both aliased to output %d",
				min(other, input), max(other, input), output)
		}
		taken[output] = input
		value := main.Inputs[input]
		if value.Attributes == nil {
			value.Attributes = make(map[string]any, 1)
		}
		value.Attributes[aliasAttribute] = int32(output)
	}
	return nil
}

// check fails if an output cannot take over the buffer of a parameter.
func (b *builder) check(input, output int, outputs []backends.Op, specs []*backends.ShardingSpec) error {
	if input < 0 || input >= len(b.parameters) {
		return fmt.Errorf("alias of parameter %d: there are %d parameters", input, len(b.parameters))
	}
	p := b.parameters[input]
	if output < 0 || output >= len(outputs) {
		return fmt.Errorf("alias of parameter %q to output %d: there are %d outputs", p.name, output, len(outputs))
	}
	shape, err := b.OpShape(outputs[output])
	if err != nil {
		return err
	}
	if !shape.Equal(p.shape) {
		return fmt.Errorf("alias of parameter %q of shape %s to output %d of shape %s: shapes must agree",
			p.name, p.shape, output, shape)
	}
	if !b.sharded {
		return nil
	}
	if p.spec == nil || output >= len(specs) || specs[output] == nil {
		return fmt.Errorf("alias of parameter %q to output %d: with several devices both need a sharding spec",
			p.name, output)
	}
	if !sameSharding(p.spec, specs[output], shape.Rank()) {
		return fmt.Errorf("alias of parameter %q sharded %v to output %d sharded %v: shardings must agree",
			p.name, p.spec.Axes, output, specs[output].Axes)
	}
	return nil
}

// sameSharding compares two specs, in which axes left out are replicated.
func sameSharding(a, b *backends.ShardingSpec, rank int) bool {
	if a.Mesh != b.Mesh {
		return false
	}
	for axis := range rank {
		var left, right []string
		if axis < len(a.Axes) {
			left = a.Axes[axis]
		}
		if axis < len(b.Axes) {
			right = b.Axes[axis]
		}
		if !slices.Equal(left, right) {
			return false
		}
	}
	return true
}

// inspect reads the text and the memory of the program that was just compiled.
func (b *builder) inspect(executable backends.Executable) (program, error) {
	text, err := stableHLO(b.Builder)
	if err != nil {
		return program{}, err
	}
	loaded, err := loadedExecutable(executable)
	if err != nil {
		return program{}, err
	}
	api, err := address(reflect.ValueOf(b.owner.Backend), "plugin", "api")
	if err != nil {
		return program{}, err
	}
	handle, err := address(reflect.ValueOf(loaded), "wrapper", "c")
	if err != nil {
		return program{}, err
	}
	compiled, err := pjrt.At(api).Executable(handle)
	if err != nil {
		return program{}, err
	}
	memory, err := compiled.Memory()
	runtime.KeepAlive(loaded)
	return program{stableHLO: text, memory: memory, executable: executable}, errors.Join(err, compiled.Close())
}
