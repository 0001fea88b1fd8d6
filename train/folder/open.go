package folder

import (
	"errors"
	"path/filepath"
	"slices"

	"limner/models/checkpoint"
	"limner/models/nn"
)

// Checkpoint is a verified checkpoint, whose state is read where it is needed.
type Checkpoint struct {
	dir      string
	contents Contents
}

// Open opens a verified checkpoint and reads where its run stood. It fails unless the files hold the contents.
func Open(dir string, contents Contents) (*Checkpoint, State, error) {
	var state State
	if err := checkpoint.ReadConfig(filepath.Join(dir, stateName), &state); err != nil {
		return nil, state, err
	}
	c := &Checkpoint{dir, contents}
	return c, state, c.check()
}

// files calls do with each file of the state, the tree of what it holds, and what stands before the keys in the
// state's.
func (c *Checkpoint) files(do func(m *checkpoint.Model, tree nn.Tree, place string) error) error {
	with := func(open func(string) (*checkpoint.Model, error), name string, tree nn.Tree, place string) error {
		m, err := open(filepath.Join(c.dir, name))
		if err != nil {
			return err
		}
		return errors.Join(do(m, tree, place), m.Close())
	}
	groups := []string{"param"}
	if c.contents.EMA {
		groups = append(groups, "ema")
	}
	for _, network := range c.contents.Components {
		open := checkpoint.OpenModel
		if network.File != "" {
			open = checkpoint.OpenModelFile
		}
		for _, group := range groups {
			if err := with(open, network.at(group == "ema"), c.contents.Trainable.Within(network.Name),
				group+"."+network.Name+"."); err != nil {
				return err
			}
		}
	}
	return with(checkpoint.OpenModelFile, optimizerName, c.contents.Optimizer.Tree, "")
}

// check fails unless the files hold what is expected.
func (c *Checkpoint) check() error {
	return c.files(func(m *checkpoint.Model, tree nn.Tree, _ string) error { return m.Check(tree) })
}

// Each calls visit with every array of the state. The keys are "group.component.key"; data is visit's until it returns.
func (c *Checkpoint) Each(visit func(key string, data []float32) error) error {
	return c.files(func(m *checkpoint.Model, tree nn.Tree, place string) error {
		return m.Each(tree, func(spec nn.Spec, data []float32) error { return visit(place+spec.Key, data) })
	})
}

// Values are the whole state.
func (c *Checkpoint) Values() (nn.Values, error) {
	values := nn.Values{}
	err := c.Each(func(key string, data []float32) error {
		values[key] = slices.Clone(data)
		return nil
	})
	return values, err
}
