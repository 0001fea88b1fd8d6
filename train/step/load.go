package step

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"

	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
)

// Saved is a state that was saved, as a checkpoint holds it.
type Saved interface {
	// Each calls visit with every array of the state, under its name; data is visit's until it returns.
	Each(visit func(name string, data []float32) error) error
}

// Load puts the frozen parameters and the state on the devices: that of the start where none was saved. Both at once,
// since much of it is waiting for the system to find memory.
func (s *Step) Load(ctx context.Context, weights nn.Source, state Saved) error {
	var both errgroup.Group
	both.Go(func() error { return s.Begin(ctx, weights, state) })
	both.Go(func() error { return errors.Join(s.loadFrozen(weights), s.loadZeros()) })
	return both.Wait()
}

func (s *Step) loadFrozen(weights nn.Source) error {
	tree := s.objective.FrozenTree()
	s.frozen = program.Arrays{}
	return s.frozen.Load(s.backend, weights, tree, s.frozenValues(tree))
}

// loadZeros puts on the devices what each step begins with.
func (s *Step) loadZeros() (err error) {
	if s.Accumulation > 1 {
		if s.sums, err = program.PutZeros(s.backend, s.sumValues()); err != nil {
			return err
		}
	}
	if s.objective.Ahead != nil {
		s.encoded, err = program.PutZeros(s.backend, s.objective.Batch[:1])
	}
	return err
}

// Begin gives the devices a state: one that was saved, or where it is nil that of the start: averages equal to the
// parameters, and slots of zeros, which are made while the first gradients are. Arrays that are there stay, with other
// contents.
func (s *Step) Begin(ctx context.Context, weights nn.Source, state Saved) error {
	s.slots = nil
	if err := s.state.Free(); err != nil {
		return err
	}
	if s.state == nil {
		s.state = program.Arrays{}
	}
	if state != nil {
		return s.restore(ctx, state)
	}
	tree, values := s.objective.Trainable, s.stateValues()
	n := len(tree)
	if s.EMA {
		if err := s.state.Load(s.backend, weights, tree, values[n:2*n]); err != nil {
			return err
		}
	}
	if err := s.state.Load(s.backend, weights, tree, values[:n]); err != nil {
		return err
	}
	s.slots = sync.OnceValues(func() (program.Arrays, error) {
		return program.PutZeros(s.backend, values[s.firstSlot():])
	})
	return nil
}

// ensureState adds the optimizer state that loading left out.
func (s *Step) ensureState() error {
	if s.slots == nil {
		return nil
	}
	slots, err := s.slots()
	s.slots = nil
	maps.Copy(s.state, slots)
	return err
}

// restore gives the devices a state that was saved.
func (s *Step) restore(ctx context.Context, state Saved) error {
	values := map[string]xla.Value{}
	for _, v := range s.stateValues() {
		values[v.Name] = v
	}
	return state.Each(func(key string, data []float32) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		a, err := put(s.backend, values[key], data)
		if err == nil {
			err = s.state.Set(key, a)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
}

// Resident are the parameters on the devices by their keys, the averages in the place of those that are trained where
// there are any. Training replaces what the arrays hold.
func (s *Step) Resident() program.Arrays {
	arrays := maps.Clone(s.frozen)
	group := groupParam
	if s.EMA {
		group = groupEMA
	}
	for _, spec := range s.objective.Trainable {
		arrays[spec.Key] = s.state[group+"."+spec.Key]
	}
	return arrays
}

// Free releases everything that the step holds on the devices.
func (s *Step) Free() error {
	seed := program.Arrays{inputSeed: s.seed}
	return errors.Join(s.state.Free(), s.sums.Free(), s.frozen.Free(), s.encoded.Free(), seed.Free())
}

// Snapshot copies the state to the host. The values hold until the next snapshot, which is put in their place: memory
// for one is as much as the run should need.
func (s *Step) Snapshot() (nn.Values, error) {
	if s.host == nil {
		s.host = nn.Values{}
		for _, v := range s.layout {
			s.host[v.name()] = make([]float32, v.spec.Size())
		}
	}
	if err := s.ensureState(); err != nil {
		return nil, err
	}
	for _, v := range s.layout {
		if err := getFloats(s.state[v.name()], s.host[v.name()]); err != nil {
			return nil, fmt.Errorf("%s: %w", v.name(), err)
		}
	}
	return s.host, nil
}
