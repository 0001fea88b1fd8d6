package patch

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"unsafe"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/xla"

	"limner/xla/pjrt"
)

// Backend is GoMLX's XLA backend whose programs can write outputs over donated inputs, and which remembers the
// StableHLO text and the memory of each program by its name.
//
// Give the Backend, not the one inside it, to every graph and tensor: GoMLX refuses to mix the two.
type Backend struct {
	*xla.Backend

	local int // devices of this process; 0: all, see Spread

	mu       sync.Mutex
	aliases  map[string]map[int]int
	programs map[string]program
}

// program is what is remembered of a compiled program.
type program struct {
	stableHLO  []byte
	memory     pjrt.Memory
	executable backends.Executable
}

// unnamed is the prefix that GoMLX gives to graphs without a name of their own.
const unnamed = "graph_#"

// Wrap returns b with donation by aliasing.
func Wrap(b *xla.Backend) *Backend {
	return &Backend{
		Backend:  b,
		aliases:  make(map[string]map[int]int),
		programs: make(map[string]program),
	}
}

// SetAliases announces, before the graph of that name is compiled, which of its parameters (by index) are written
// over by which of its outputs (by index). The announcement holds for one compilation. Two of one name at the same
// time must be kept apart by the caller.
//
// A parameter is overwritten only in the calls that donate its buffer (graph.DonateTensorBuffer); in others XLA
// copies it first, and the result is the same.
func (b *Backend) SetAliases(program string, outputOf map[int]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.aliases[program] = maps.Clone(outputOf)
}

// Builder starts a program, as GoMLX asks for it when a graph is built.
func (b *Backend) Builder(name string) backends.Builder {
	inner, ok := b.Backend.Builder(name).(*xla.Builder)
	if !ok {
		return nil
	}
	return &builder{Builder: inner, owner: b, program: name}
}

// Memory returns what the program last compiled under that name needs.
func (b *Backend) Memory(program string) (pjrt.Memory, error) {
	p, err := b.compiled(program)
	return p.memory, err
}

// Execute runs the program last compiled under that name on the devices of this process: buffers are those of the first
// device in the order of the parameters, then the next one's, and so are the results. Buffers that are donated are of
// no use afterwards.
func (b *Backend) Execute(program string, buffers []backends.Buffer, donate []bool) ([]backends.Buffer, error) {
	p, err := b.compiled(program)
	if err != nil {
		return nil, err
	}
	return p.executable.Execute(buffers, donate, 0)
}

// Client returns PJRT's client.
func (b *Backend) Client() (unsafe.Pointer, error) {
	return address(reflect.ValueOf(b.Backend), "client", "client", "c")
}

// StableHLO returns the text that was compiled last under that name.
func (b *Backend) StableHLO(program string) (string, error) {
	p, err := b.compiled(program)
	return string(p.stableHLO), err
}

// Forget drops what is remembered of a program.
func (b *Backend) Forget(program string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.programs, program)
}

func (b *Backend) compiled(name string) (program, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.programs[name]
	if !ok {
		return program{}, fmt.Errorf("no program named %q has been compiled", name)
	}
	return p, nil
}

// takeAliases returns the announced aliases of a program and forgets them.
func (b *Backend) takeAliases(program string) map[int]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	outputOf := b.aliases[program]
	delete(b.aliases, program)
	return outputOf
}

// remember keeps a compiled program, if somebody named it.
func (b *Backend) remember(name string, p program) {
	if strings.HasPrefix(name, unnamed) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.programs[name] = p
}
