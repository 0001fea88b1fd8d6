// Package xla compiles graphs through PJRT and runs them on CPU, TPU or CUDA devices.
package xla

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomlx/gomlx/pkg/core/distributed"

	"limner/xla/cpu"
	"limner/xla/hlo"
	"limner/xla/mosaic"
	"limner/xla/patch"
	"limner/xla/pjrt"
	"limner/xla/plugin"
)

// Options choose the devices.
type Options struct {
	Backend string    // "cpu", "tpu", "cuda" or the path of a PJRT plugin; "" is "cpu"
	Devices int       // how many devices to use; 0 is one on CPU and all elsewhere
	Slice   bool      // the caller works on machines of a slice together with others, too; without, that is refused
	Effort  Effort    // how much work the compiler may spend; "" is its own choice
	Log     io.Writer // where the installation of a plugin reports, and the cache

	Cache       string   // folder of compiled programs, which later processes load; "" keeps none
	Executables []string // files of SaveExecutables, or of such a folder, to load programs from
}

// Backend is a set of devices that run one program together, each on its share of the batch.
type Backend struct {
	plugin   string
	table    pjrt.Table   // of the plugin
	client   *pjrt.Client // of the devices; nil where programs are only planned
	target   *target      // what is planned for; nil where programs are to run
	platform string       // the compiler's version, as the plugin says it
	kind     string       // what the devices are: cpu, TPU v4
	n        int          // devices, those of other processes too
	seats
	graphs patch.Backend           // on which programs are built
	mesh   *distributed.DeviceMesh // nil with one device

	attention attentionKernel // nil: none
	forward   cpu.Layers      // its layers are nil: XLA's are used
	effort    []byte          // what it adds to each serialized CompileOptionsProto

	// run runs a program on this process's devices. Tests put several processes into one.
	run func(*Program, []*pjrt.Buffer) ([]*pjrt.Buffer, error)

	gathering sync.Mutex
	gatherers map[string]*Program // that bring an array's parts together, by its shape and sharding

	store    *store
	identity func() (string, error) // the plugin's name and SHA-256

	compilers atomic.Int32 // that are at work
	abandoned atomic.Bool  // one of them was left behind
}

// mostCPUDevices is how many devices a CPU is divided into at most.
const mostCPUDevices = 1024

// Open loads the plugin, installing it on first use, and takes the devices.
func Open(ctx context.Context, o Options) (*Backend, error) {
	if o.Backend == "" {
		o.Backend = "cpu"
	}
	if o.Devices < 0 {
		return nil, fmt.Errorf("%d devices: want at least 1", o.Devices)
	}
	kernels, err := cpu.Enabled(os.Getenv)
	if err != nil {
		return nil, err
	}
	kept, err := openStore(o)
	if err != nil {
		return nil, err
	}
	path, err := plugin.Find(ctx, o.Backend, plugin.InstallOptions{Progress: o.Log})
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	devices := o.Devices
	var options []pjrt.Option
	if plugin.IsCPU(o.Backend, path) {
		if devices = max(devices, 1); devices > mostCPUDevices {
			return nil, fmt.Errorf("%d devices: want at most %d on a CPU, each of which takes memory and threads",
				devices, mostCPUDevices)
		}
		options = []pjrt.Option{{Name: "cpu_device_count", Value: int64(devices)}}
	}
	if err := plugin.SetEnv(path); err != nil {
		return nil, err
	}
	if strings.Contains(filepath.Base(path), "tpu") && plugin.HasTPU("/dev") {
		if p := findSlice(os.Getenv, metadata); !p.Alone() { // making the client waits until all are there
			if err := o.beside(p); err != nil {
				return nil, err
			}
			if o.Log != nil {
				fmt.Fprintf(o.Log, "machine %d of %d of a TPU slice, counted from 0: "+
					"waiting until limner runs on all of them\n", p.Index, p.Count)
			}
		}
	}
	library, err := plugin.Load(path)
	if err != nil {
		return nil, err
	}
	client, err := newClient(ctx, library.Table, options)
	if err != nil {
		return nil, fmt.Errorf("open PJRT plugin %s: %w", path, err)
	}
	b := &Backend{
		plugin: path, table: library.Table, client: client, store: kept, run: (*Program).execute,
		identity: sync.OnceValues(func() (string, error) { return library.Identity(kept.folder) }),
	}
	if err := b.take(devices, o); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if b.CPU() {
		b.effort = o.Effort.cpu()
		if kernels {
			b.forward = cpu.Use(b.table, b.n)
		}
	}
	if strings.Contains(filepath.Base(path), "tpu") {
		b.chooseAttention(ctx, o.Log)
	}
	return b, nil
}

// newClient makes the plugin's client, which may wait for devices or for other machines. That cannot be interrupted:
// once ctx is done, it is left behind until the process ends.
func newClient(ctx context.Context, table pjrt.Table, options []pjrt.Option) (*pjrt.Client, error) {
	done := make(chan struct{})
	var client *pjrt.Client
	var failed error
	go func() {
		defer close(done)
		client, failed = table.NewClient(options...)
	}()
	select {
	case <-done:
		return client, failed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// take takes so many of the client's devices, all for 0, and beside other processes all.
func (b *Backend) take(devices int, o Options) (err error) {
	found := b.client.Own()
	if devices == 0 {
		devices = found
	}
	if devices > found || found == 0 {
		return fmt.Errorf("%d devices asked for, %s has %d: ask for at most that many", devices, o.Backend, found)
	}
	if b.platform, err = b.client.Version(); err != nil {
		return err
	}
	if devices, err = b.join(devices); err != nil {
		return err
	}
	if !b.process.Alone() {
		if err := o.beside(b.process); err != nil {
			return err
		}
	}
	return b.arrange(devices)
}

// arrange gets ready to build programs for n devices.
func (b *Backend) arrange(n int) (err error) {
	patch.RegisterGradients()
	b.n = n
	if b.graphs, err = patch.NewBackend(n); err != nil || n == 1 {
		return err
	}
	b.mesh, err = distributed.NewDeviceMesh([]int{n}, []string{dataAxis})
	return err
}

// chooseAttention takes the TPU's kernel for attention if it is found right on the devices.
func (b *Backend) chooseAttention(ctx context.Context, log io.Writer) {
	if err := b.tryAttention(ctx, mosaic.Attend); err == nil {
		b.attention = mosaic.Attend
	} else if log != nil {
		fmt.Fprintf(log, "limner's own attention cannot be used on these devices, so XLA's is, "+
			"which takes more time and memory: %v\n", err)
	}
}

// Close frees the devices. Programs and arrays of the backend are of no use afterwards. Devices for which a compiler
// was left behind at work stay taken until the process ends.
func (b *Backend) Close() error {
	if b.abandoned.Load() {
		return nil
	}
	var err error
	for _, program := range b.gatherers {
		err = errors.Join(err, program.Close())
	}
	if b.target != nil {
		return errors.Join(err, b.target.devices.Close())
	}
	return errors.Join(err, b.client.Close(), b.store.shut())
}

// Devices is the number of devices that run each program, those of other processes too.
func (b *Backend) Devices() int { return b.n }

// CPU says that XLA's CPU compiler makes the programs.
func (b *Backend) CPU() bool { return b.kind == "cpu" }

// Plugin is the path of the PJRT plugin.
func (b *Backend) Plugin() string { return b.plugin }

// beginning hears what is done to a program now, as Function.Announce.
type beginning = func(loading bool, compiling Expected)

// compile compiles a program for the backend's devices, unless it was kept.
func (b *Backend) compile(text, options []byte, begin beginning) (program *pjrt.Loaded, kept bool, err error) {
	b.compilers.Add(1)
	defer func() {
		if b.compilers.Add(-1) == 0 { // others would want the memory again
			cpu.Trim()
		}
	}()
	key := programKey{Device: b.kind}
	if !b.store.idle() {
		if key, err = b.programKey(text, options); err != nil {
			b.store.close(err)
		} else if program = b.store.load(b.client, key, begin); program != nil {
			return program, true, nil
		}
	}
	size := hlo.Operations(text)
	begin(false, b.store.expected(key, size))
	start := time.Now()
	if program, err = b.client.Compile(text, options); err == nil {
		b.store.took(key, size, time.Since(start))
		b.store.keep(program, key)
	}
	return program, false, err
}
