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
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
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
	params     program.Arrays           // by key, shared by all programs
	texts      map[int]*program.Program // by clip skip
	projectors map[projectionKey]*program.Program
	steps      map[stepKey]*program.Program
	conditions []*program.Program // by ControlNet
	encoder    *program.Program   // nil until there is an image to begin from
	decoder    *program.Program   // of whole images; nil if they are decoded in pieces
	pieces     map[pieceKey]*program.Program
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
	return errors.Join(p.put(networks, nn.Until(ctx, p.model.Weights)),
		p.put(loras, checkpoint.InMemory(p.model.loraValues())))
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
func (p *Pipeline) compile(ctx context.Context, name string, f program.Function) (*program.Program, error) {
	f.Announce = func(loading bool, compiling xla.Expected) {
		if loading {
			fmt.Fprintf(p.model.Log, "loading %s\n", name)
		} else {
			fmt.Fprintf(p.model.Log, "compiling %s%s\n", name, compiling)
		}
	}
	compiled, err := program.Compile(ctx, p.backend, f)
	if err != nil {
		return nil, err
	}
	if took := compiled.CompileTime; compiled.FromCache {
		fmt.Fprintf(p.model.Log, "loaded %s in %.1f s: it had been compiled before\n", name, took.Seconds())
	} else if took >= time.Second {
		fmt.Fprintf(p.model.Log, "compiled %s in %.1f s\n", name, took.Seconds())
	}
	return compiled, nil
}

// apply runs a program without state on inputs and the parameters.
func (p *Pipeline) apply(compiled *program.Program, inputs program.Arrays) (program.Arrays, error) {
	return compiled.Run(nil, inputs, p.model.Resident, p.params)
}

// Replace puts other weights in the place of the parameters that the tree lists, such as a ControlNet's that is being
// trained. It fails for a parameter that the pipeline does not have.
func (p *Pipeline) Replace(tree nn.Tree, weights nn.Source) error {
	for _, spec := range tree {
		if p.params[spec.Key] == nil {
			return fmt.Errorf("the pipeline has no parameter %s", spec.Key)
		}
	}
	return p.put(tree, weights)
}

// put copies parameters to the devices.
func (p *Pipeline) put(tree nn.Tree, weights nn.Source) error {
	return p.params.Load(p.backend, weights, tree, program.Parameters(tree, p.model.Compute))
}

// Close frees the parameters. The pipeline is of no use afterwards.
func (p *Pipeline) Close() error { return p.params.Free() }

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

func (p *Pipeline) latentsValue() xla.Value { return p.like(inputLatents) }

// like describes an array like the latents of the batch.
func (p *Pipeline) like(name string) xla.Value {
	return batch(name, dtypes.Float32, p.shape.Batch, p.latentHeight(), p.latentWidth(), p.channels())
}

func batch(name string, dtype dtypes.DType, dims ...int) xla.Value {
	return xla.Value{Name: name, Shape: shapes.Make(dtype, dims...), Sharding: xla.Batch}
}

// rowsOf describes outputs that are divided over the devices as batches are.
func rowsOf(names ...string) []xla.Value {
	values := make([]xla.Value, len(names))
	for i, name := range names {
		values[i] = xla.Value{Name: name, Sharding: xla.Batch}
	}
	return values
}

// parameters are the inputs that bring a tree to a program.
func (p *Pipeline) parameters(tree nn.Tree) []xla.Value {
	values := program.Parameters(tree, p.model.Compute)
	for i, spec := range tree {
		if a := p.model.Resident[spec.Key]; a != nil {
			values[i].Shape, values[i].Sharding = a.Shape(), a.Sharding()
		}
	}
	return values
}

// bind gives the parameters of a tree their nodes.
func (p *Pipeline) bind(tree nn.Tree, in program.Nodes) nn.Params {
	return program.BindForward(p.backend, tree, in)
}

// perDevice is how many images of a batch each device has.
func (p *Pipeline) perDevice() int { return p.shape.Batch / p.backend.Devices() }

// row is the place in the batch of image i of a device.
func (p *Pipeline) row(device, i int) int { return device*p.perDevice() + i }
