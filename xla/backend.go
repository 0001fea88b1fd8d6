// Package xla compiles graphs through PJRT and runs them on CPU, TPU or CUDA devices.
package xla

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	goxla "github.com/gomlx/go-xla/pkg/pjrt"
	"github.com/gomlx/gomlx/backends"
	gomlx "github.com/gomlx/gomlx/backends/xla"
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
	engine *patch.Backend
	plugin string
	mesh   *distributed.DeviceMesh // nil with one device
	n      int                     // devices, those of other processes too
	seats
	client unsafe.Pointer // PJRT's
	table  pjrt.Table     // of the plugin
	target *target        // what is planned for; nil where programs are to run

	attention attentionKernel // nil: none
	forward   cpu.Layers      // its layers are nil: XLA's are used
	options   []byte          // of XLA's CPU compiler, for every program: part of a serialized CompileOptionsProto; nil with another

	run func(*Program, []backends.Buffer, []bool) ([]backends.Buffer, error) // on this process's devices; tests put several processes into one

	gathering sync.Mutex
	gatherers map[string]*Program // that bring an array's parts together, by its shape and sharding

	store    *store
	identity func() (string, error) // the plugin's name and SHA-256
	pending  sync.Map               // of *compiling, by the names of programs that are being built

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
	var client goxla.NamedValuesMap
	if plugin.IsCPU(o.Backend, path) {
		if devices = max(devices, 1); devices > mostCPUDevices {
			return nil, fmt.Errorf("%d devices: want at most %d on a CPU, each of which takes memory and threads", devices, mostCPUDevices)
		}
		client = goxla.NamedValuesMap{"cpu_device_count": int64(devices)}
	}
	if err := plugin.SetEnv(path); err != nil {
		return nil, err
	}
	patch.RegisterGradients()
	if strings.Contains(filepath.Base(path), "tpu") && plugin.HasTPU("/dev") {
		if p := findSlice(os.Getenv, metadata); !p.Alone() { // making the client waits until all are there
			if err := o.beside(p); err != nil {
				return nil, err
			}
			if o.Log != nil {
				fmt.Fprintf(o.Log, "machine %d of %d of a TPU slice, counted from 0: waiting until limner runs on all of them\n", p.Index, p.Count)
			}
		}
	}
	library, err := plugin.Load(path)
	if err != nil {
		return nil, err
	}
	engine, err := newEngine(ctx, path, client)
	if err != nil {
		return nil, fmt.Errorf("open PJRT plugin %s: %w", path, err)
	}
	found := engine.NumDevices()
	if devices == 0 {
		devices = found
	}
	if devices > found || found == 0 {
		engine.Finalize()
		return nil, fmt.Errorf("%d devices asked for, %s has %d: ask for at most that many", devices, o.Backend, found)
	}
	b := &Backend{engine: patch.Wrap(engine), plugin: path, n: devices, table: library.Table, store: kept, run: (*Program).execute}
	if plugin.IsCPU(o.Backend, path) {
		b.options = o.Effort.cpu()
	}
	b.identity = sync.OnceValues(func() (string, error) { return library.Identity(kept.folder) })
	if b.client, err = b.engine.Client(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if b.CPU() && kernels {
		b.forward = cpu.Use(b.table, b.n)
	}
	b.table.Intercept(b.client, b.compile)
	if err = b.join(); err == nil && !b.process.Alone() {
		err = o.beside(b.process)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if b.n > 1 {
		if b.mesh, err = distributed.NewDeviceMesh([]int{b.n}, []string{dataAxis}); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	if strings.Contains(filepath.Base(path), "tpu") {
		b.chooseAttention(ctx, o.Log)
	}
	return b, nil
}

// newEngine makes the plugin's client, which may wait for devices or for other machines. That cannot be interrupted: once ctx is done, it is left
// behind until the process ends.
func newEngine(ctx context.Context, path string, options goxla.NamedValuesMap) (*gomlx.Backend, error) {
	done := make(chan struct{})
	var made *gomlx.Backend
	var failed error
	go func() {
		defer close(done)
		made, failed = gomlx.NewWithOptions(path, options)
	}()
	select {
	case <-done:
		return made, failed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// chooseAttention takes the TPU's kernel for attention if it is found right on the devices.
func (b *Backend) chooseAttention(ctx context.Context, log io.Writer) {
	if err := b.tryAttention(ctx, mosaic.Attend); err == nil {
		b.attention = mosaic.Attend
	} else if log != nil {
		fmt.Fprintf(log, "limner's own attention cannot be used on these devices, so XLA's is, which takes more time and memory: %v\n", err)
	}
}

// Close frees the devices. Programs and arrays of the backend are of no use afterwards. Devices for which a compiler was left behind at work stay
// taken until the process ends.
func (b *Backend) Close() error {
	if b.abandoned.Load() {
		return nil
	}
	b.table.Intercept(b.client, nil)
	var err error
	for _, program := range b.gatherers {
		err = errors.Join(err, program.Close())
	}
	err = errors.Join(err, Try(b.engine.Finalize), b.store.shut())
	if b.target != nil {
		err = errors.Join(err, b.target.devices.Close())
	}
	return err
}

// Devices is the number of devices that run each program, those of other processes too.
func (b *Backend) Devices() int { return b.n }

// CPU says that XLA's CPU compiler makes the programs.
func (b *Backend) CPU() bool { return b.options != nil }

// Plugin is the path of the PJRT plugin.
func (b *Backend) Plugin() string { return b.plugin }

// compiling is what is known of a program while it is built.
type compiling struct {
	announce beginning     // nil: nobody wants to know
	inputs   []string      // the names of its inputs
	built    chan struct{} // closed when the compiler has it
	key      programKey    // of a planned program
	err      error
	loaded   bool
}

// compile compiles for the backend's devices, or for those that are planned for, unless the program was kept.
func (b *Backend) compile(c *pjrt.Compilation) {
	b.compilers.Add(1)
	defer func() {
		if b.compilers.Add(-1) == 0 { // others would want the memory again
			cpu.Trim()
		}
	}()
	c.Program, c.Options = patch.ManualKernels(c.Program), append(slices.Clone(c.Options), b.options...)
	_, module, _ := unnumbered(c.Program)
	work := &compiling{}
	if found, ok := b.pending.Load(module); ok {
		work = found.(*compiling)
		close(work.built)
	}
	if b.target != nil {
		work.key, work.err = b.programKey(c)
		work.begin(false, 0)
		b.target.compile(c, work.inputs)
		return
	}
	size := hlo.Operations(c.Program)
	if b.store.idle() {
		kind, _ := c.DeviceKind() // of one that does not say, nothing is expected
		work.begin(false, b.store.expected(programKey{Device: kind}, size))
		c.Compile()
		return
	}
	key, err := b.programKey(c)
	if err != nil {
		b.store.close(err)
		work.begin(false, 0)
		c.Compile()
		return
	}
	if work.loaded = b.store.load(c, key, work.begin); work.loaded {
		return
	}
	work.begin(false, b.store.expected(key, size))
	start := time.Now()
	if c.Compile() {
		b.store.took(key, size, time.Since(start))
		b.store.keep(c, key)
	}
}

// beginning hears what is done to a program now, as Function.Announce.
type beginning = func(loading bool, compiling Expected)

// begin tells whether the program is loaded or compiled now.
func (w *compiling) begin(loading bool, compiling Expected) {
	if w.announce != nil {
		w.announce(loading, compiling)
	}
}
