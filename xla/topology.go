package xla

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"limner/xla/hlo"
	"limner/xla/mosaic"
	"limner/xla/pjrt"
	"limner/xla/plugin"
)

// Chip is what is known of a TPU's chip.
type Chip struct {
	Name    string  // as in a topology's name: v4
	HBM     float64 // that programs may use, in bytes
	FLOPS   float64 // bfloat16 operations a second at most
	HBMRate float64 // bytes a second at most
}

// Roofline is the least time, in seconds, of so many operations and bytes of main memory.
func (c Chip) Roofline(flop, bytes float64) float64 { return max(flop/c.FLOPS, bytes/c.HBMRate) }

const gib = 1 << 30

// chips are the kinds that libtpu compiles for. HBM is what its compiler grants a program; the rates are Google's
// figures.
var chips = []Chip{
	{Name: "v4", HBM: 30.75 * gib, FLOPS: 275e12, HBMRate: 1228e9},
	{Name: "v5e", HBM: 15.75 * gib, FLOPS: 197e12, HBMRate: 819e9},
	{Name: "v5p", HBM: 95.73 * gib, FLOPS: 459e12, HBMRate: 2765e9},
	{Name: "v6e", HBM: 31.24 * gib, FLOPS: 918e12, HBMRate: 1640e9},
}

// Topology is a slice of TPU chips, under the name that it is ordered by: v4-8.
type Topology struct {
	Name   string
	Chip   Chip
	Bounds []int // chips each way
	Host   []int // chips of one host each way
}

// Chips is the number of chips, each of which is one device.
func (t Topology) Chips() int { return count(t.Bounds) }

// Hosts is the number of machines.
func (t Topology) Hosts() int { return max(1, t.Chips()/count(t.Host)) }

func count(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// Topologies are those that can be named. A number behind v4 and v5p counts cores, of which a chip has two that work as
// one device; behind v5e and v6e it counts chips.
func Topologies() []Topology {
	var all []Topology
	for _, kind := range []string{"v4", "v5p"} {
		for _, bounds := range [][]int{{2, 2, 1}, {2, 2, 2}, {2, 2, 4}, {2, 4, 4}, {4, 4, 4}, {4, 4, 8}, {4, 8, 8}} {
			all = append(all, Topology{fmt.Sprintf("%s-%d", kind, 2*count(bounds)), chip(kind), bounds, []int{2, 2, 1}})
		}
	}
	for _, kind := range []string{"v5e", "v6e"} {
		for _, bounds := range [][]int{{1, 1}, {2, 2}, {2, 4}, {4, 4}, {4, 8}, {8, 8}, {8, 16}, {16, 16}} {
			host := []int{min(2, bounds[0]), min(4, bounds[1])}
			if count(bounds) > 8 {
				host = []int{2, 2}
			}
			all = append(all, Topology{fmt.Sprintf("%s-%d", kind, count(bounds)), chip(kind), bounds, host})
		}
	}
	return all
}

func chip(name string) Chip {
	return chips[slices.IndexFunc(chips, func(c Chip) bool { return c.Name == name })]
}

// FindTopology is the topology of a name.
func FindTopology(name string) (Topology, error) {
	all := Topologies()
	for _, t := range all {
		if t.Name == name {
			return t, nil
		}
	}
	byChip := map[string][]string{}
	for _, t := range all {
		byChip[t.Chip.Name] = append(byChip[t.Chip.Name], strings.TrimPrefix(t.Name, t.Chip.Name+"-"))
	}
	var known []string
	for _, c := range chips {
		known = append(known, c.Name+"-"+strings.Join(byChip[c.Name], "|"))
	}
	return Topology{}, fmt.Errorf("unknown TPU topology %q: known are %s", name, strings.Join(known, ", "))
}

// bounds is a list of dimensions in libtpu's spelling.
func bounds(dims []int) string {
	var parts []string
	for _, d := range dims {
		parts = append(parts, strconv.Itoa(d))
	}
	return strings.Join(parts, "x")
}

// target is what a planning backend compiles for.
type target struct {
	topology Topology
	devices  *pjrt.Topology
	mu       sync.Mutex // held while a program is compiled, which takes much memory
}

// OpenPlan opens a backend that compiles for a topology without having it: its programs tell what the compiler made of
// them, and cannot be run. Of the options it takes the effort and the log.
func OpenPlan(ctx context.Context, topology Topology, o Options) (*Backend, error) {
	path, err := plugin.Find(ctx, "tpu", plugin.InstallOptions{Progress: o.Log})
	if err != nil {
		return nil, err
	}
	if err := plugin.SetEnv(path); err != nil {
		return nil, err
	}
	library, err := plugin.Load(path)
	if err != nil {
		return nil, err
	}
	host := make([]int64, 0, 3)
	for _, d := range topology.Host {
		host = append(host, int64(d))
	}
	options := []pjrt.Option{
		{Name: "chips_per_host_bounds", Value: append(host, 1, 1)[:3]}, {Name: "num_slices", Value: int64(1)},
	}
	if len(topology.Bounds) == 3 {
		options = append(options, pjrt.Option{Name: "chip_config_name", Value: "megacore"})
	}
	devices, err := library.Table.NewTopology(topology.Chip.Name+":"+bounds(topology.Bounds), options...)
	if err != nil {
		return nil, fmt.Errorf("describe %s to %s: %w", topology.Name, filepath.Base(path), err)
	}
	n, err := devices.Devices()
	if err == nil && n != topology.Chips() {
		err = fmt.Errorf("%s describes %s as %d devices, want %d",
			filepath.Base(path), topology.Name, n, topology.Chips())
	}
	if err != nil {
		return nil, errors.Join(err, devices.Close())
	}
	b := &Backend{
		plugin: path, table: library.Table, target: &target{topology: topology, devices: devices},
		seats:     seats{process: Process{Count: 1}},
		attention: mosaic.Attend, effort: o.Effort.tpu(), store: &store{log: io.Discard},
		identity: sync.OnceValues(func() (string, error) { return library.Identity("") }),
	}
	for id := range n {
		b.order, b.local = append(b.order, id), append(b.local, id)
	}
	if b.platform, err = devices.Version(); err == nil {
		b.kind, err = devices.DeviceKind()
	}
	if err == nil {
		err = b.arrange(n)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// compile compiles a program with inputs of these names for the topology.
func (t *target) compile(text, options []byte, inputs []string) (*pjrt.Executable, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	program := hlo.Parse(text, inputs)
	executable, err := t.devices.Compile(hlo.Named(program), options)
	return executable, tooLarge(err, program, t.topology.Chips())
}

// FreeMemory is how many bytes of this machine's memory are free; 0 if unknown.
func FreeMemory() int64 {
	_, available := plugin.HostMemory()
	return available
}
