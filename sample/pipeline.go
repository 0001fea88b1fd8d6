package sample

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/xla"
)

// Shape is what the programs are compiled for.
type Shape struct {
	Batch         int // images sampled at once, over all devices
	Height, Width int // of the images, in pixels
}

// Pipeline holds the compiled programs, and the parameters on the devices, of one model and shape. It may be used from
// one goroutine at a time.
type Pipeline struct {
	backend    *xla.Backend
	model      Model
	shape      Shape
	trees      trees
	params     map[string]*xla.Array // by key, shared by all programs
	texts      map[int]*xla.Program  // by clip skip
	projectors map[projectionKey]*xla.Program
	steps      map[stepKey]*xla.Program
	conditions []*xla.Program // by ControlNet
	encoder    *xla.Program   // nil until there is an image to begin from
	decoder    *xla.Program   // of whole images; nil if they are decoded in pieces
	pieces     map[pieceKey]*xla.Program
	told       map[string]bool // lines on prompts that Log has
}

// load puts the parameters of trees on the devices, but those that are there, until ctx is done.
func (p *Pipeline) load(ctx context.Context, trees ...nn.Tree) error {
	for _, tree := range trees {
		if err := p.loadTree(ctx, tree); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pipeline) loadTree(ctx context.Context, tree nn.Tree) error {
	var networks, loras nn.Tree
	for _, spec := range tree {
		switch {
		case p.array(spec.Key) != nil:
		case strings.HasPrefix(spec.Key, loraPrefix):
			loras = append(loras, spec)
		default:
			networks = append(networks, spec)
		}
	}
	dtype := nn.FileDType(p.model.Compute)
	err := checkpoint.InMemory(p.model.loraValues()).Stream(loras, dtype, p.put)
	if len(networks) > 0 {
		err = errors.Join(nn.Until(ctx, p.model.Weights).Stream(networks, dtype, p.put), err)
	}
	return err
}

// array is the parameter of a key on the devices, or nil.
func (p *Pipeline) array(key string) *xla.Array {
	if a := p.model.Resident[key]; a != nil {
		return a
	}
	return p.params[key]
}

// sharedLog takes lines from several compilations at once.
type sharedLog struct {
	mu sync.Mutex
	to io.Writer
}

func (l *sharedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(line)
}

// compile announces a program and how long it took.
func (p *Pipeline) compile(ctx context.Context, name string, f xla.Function) (*xla.Program, error) {
	f.Announce = func(loading bool, compiling xla.Expected) {
		if loading {
			fmt.Fprintf(p.model.Log, "loading %s\n", name)
		} else {
			fmt.Fprintf(p.model.Log, "compiling %s%s\n", name, compiling)
		}
	}
	program, err := p.backend.Compile(ctx, f)
	if err != nil {
		return nil, err
	}
	if took := program.CompileTime; program.FromCache {
		fmt.Fprintf(p.model.Log, "loaded %s in %.1f s: it had been compiled before\n", name, took.Seconds())
	} else if took >= time.Second {
		fmt.Fprintf(p.model.Log, "compiled %s in %.1f s\n", name, took.Seconds())
	}
	return program, nil
}

// Replace puts other weights in the place of the parameters that the tree lists, such as a ControlNet's that is being
// trained. It fails for a parameter that the pipeline does not have.
func (p *Pipeline) Replace(tree nn.Tree, weights nn.Source) error {
	return weights.Stream(tree, nn.FileDType(p.model.Compute), func(spec nn.Spec, write func(to []byte) error) error {
		old := p.params[spec.Key]
		if old == nil {
			return fmt.Errorf("the pipeline has no parameter %s", spec.Key)
		}
		if err := p.put(spec, write); err != nil {
			return err
		}
		return old.Free()
	})
}

// put copies a parameter to the devices.
func (p *Pipeline) put(spec nn.Spec, write func(to []byte) error) error {
	a, err := xla.Fill(p.backend, shapes.Make(p.model.Compute, spec.Shape...), xla.Replicated, write)
	if err != nil {
		return fmt.Errorf("parameter %s: %w", spec.Key, err)
	}
	p.params[spec.Key] = a
	return nil
}

// Close frees the parameters. The pipeline is of no use afterwards.
func (p *Pipeline) Close() error {
	var errs []error
	for _, a := range p.params {
		errs = append(errs, a.Free())
	}
	return errors.Join(errs...)
}

func (p *Pipeline) latentHeight() int { return p.shape.Height / p.model.Pipeline.VAE.Scale() }

func (p *Pipeline) latentWidth() int { return p.shape.Width / p.model.Pipeline.VAE.Scale() }

func (p *Pipeline) channels() int { return p.model.Pipeline.VAE.LatentChannels }

// latentSize is the number of values in the latents of one image, conditionSize that of a ControlNet's conditioning
// image.
func (p *Pipeline) latentSize() int { return p.latentHeight() * p.latentWidth() * p.channels() }

func (p *Pipeline) conditionSize(net int) int {
	return p.shape.Height * p.shape.Width * p.model.ControlNets[net].ConditioningChannels
}

// rows is the number of text embeddings of a batch.
func (p *Pipeline) rows(guidance bool) int {
	if guidance {
		return 2 * p.shape.Batch
	}
	return p.shape.Batch
}

func (p *Pipeline) latents() xla.Value {
	return batch("latents", dtypes.Float32, p.shape.Batch, p.latentHeight(), p.latentWidth(), p.channels())
}

func batch(name string, dtype dtypes.DType, dims ...int) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype, dims...), Sharding: xla.Batch}
}

// parameters are the inputs that bring a tree to a program.
func (p *Pipeline) parameters(tree nn.Tree) []xla.Value {
	values := make([]xla.Value, len(tree))
	for i, spec := range tree {
		values[i] = xla.Value{Name: spec.Key, Shape: shapes.Make(p.model.Compute, spec.Shape...)}
		if a := p.model.Resident[spec.Key]; a != nil {
			values[i].Shape, values[i].Sharding = a.Shape(), a.Sharding()
		}
	}
	return values
}

// bind gives the parameters of a tree their nodes, the first of a program's inputs.
func (p *Pipeline) bind(tree nn.Tree, inputs []*Node) nn.Params {
	return nn.Bind(tree, inputs[:len(tree)]).WithKernels(nn.Kernels(p.backend.Forward()))
}

// arguments are the arrays for parameters(tree), followed by others.
func (p *Pipeline) arguments(tree nn.Tree, others ...*xla.Array) []*xla.Array {
	args := make([]*xla.Array, 0, len(tree)+len(others))
	for _, spec := range tree {
		args = append(args, p.array(spec.Key))
	}
	return append(args, others...)
}

// perDevice is how many images of a batch each device has.
func (p *Pipeline) perDevice() int { return p.shape.Batch / p.backend.Devices() }

// row is the place in the batch of image i of a device.
func (p *Pipeline) row(device, i int) int { return device*p.perDevice() + i }
