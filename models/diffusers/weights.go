package diffusers

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"limner/models/checkpoint"
	"limner/models/nn"
)

// Weights are networks' weights in their files, below the names of their components. They are a source of parameters, which
// are read one at a time and never all in memory.
type Weights struct {
	parts map[string]part
	files []*checkpoint.Checkpoint // the single files that parts are in
}

type part struct {
	model *checkpoint.Model
	tree  nn.Tree   // all of it
	added []float32 // rows behind those of the token embeddings
}

// Weights opens the files of components.
func (p *Pipeline) Weights(components ...string) (*Weights, error) {
	w := &Weights{parts: map[string]part{}}
	if p.single {
		c, err := checkpoint.OpenFile(p.Dir)
		if err != nil {
			return nil, err
		}
		w.files = append(w.files, c)
		for _, component := range components {
			if err := w.take(c, component, p.fileTree(component)); err != nil {
				return nil, errors.Join(err, w.Close())
			}
		}
		return p.withAdded(w), nil
	}
	for _, component := range components {
		m, err := checkpoint.OpenVariant(filepath.Join(p.Dir, component), p.variant)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.parts[component] = part{model: m, tree: p.fileTree(component)}
	}
	return p.withAdded(w), nil
}

// withAdded puts the rows of textual inversions behind the token embeddings.
func (p *Pipeline) withAdded(w *Weights) *Weights {
	for component, rows := range p.added {
		if part, ok := w.parts[component]; ok {
			part.added = rows
			w.parts[component] = part
		}
	}
	return w
}

// Open adds the weights of a component from its folder or from a single file. The tree lists all of its parameters, without
// its name.
func (w *Weights) Open(component, path string, tree nn.Tree) error {
	if isFile(path) {
		c, err := checkpoint.OpenFile(path)
		if err != nil {
			return err
		}
		w.files = append(w.files, c)
		return w.take(c, component, tree)
	}
	m, err := checkpoint.OpenModel(path)
	if err != nil {
		return err
	}
	w.parts[component] = part{model: m, tree: tree}
	return nil
}

// take adds a component of a single file.
func (w *Weights) take(c *checkpoint.Checkpoint, component string, tree nn.Tree) error {
	m, ok := c.Component(component)
	if !ok {
		return fmt.Errorf("load %s: the file has no %s, only %s", c.Path(), component, strings.Join(c.Components(), ", "))
	}
	w.parts[component] = part{model: m, tree: tree}
	return nil
}

// Stream is that of nn.Source, in the order that a component's own tree has. The tree's keys begin with the names of
// components, of which it may list a part.
func (w *Weights) Stream(tree nn.Tree, dtype string, visit func(spec nn.Spec, data []byte) error) error {
	for len(tree) > 0 {
		component, _, _ := strings.Cut(tree[0].Key, ".")
		wanted := map[string]bool{}
		n := 0
		for ; n < len(tree) && strings.HasPrefix(tree[n].Key, component+"."); n++ {
			wanted[tree[n].Key] = true
		}
		part, ok := w.parts[component]
		if !ok {
			return fmt.Errorf("no weights for %s", component)
		}
		// The whole tree is streamed, since that compares all of it with the file.
		err := part.model.Stream(part.tree, dtype, func(spec nn.Spec, data []byte) error {
			spec.Key = component + "." + spec.Key
			if !wanted[spec.Key] {
				return nil
			}
			delete(wanted, spec.Key)
			if len(part.added) > 0 && strings.HasSuffix(spec.Key, "."+tokenTable) {
				return visitExtended(spec, data, part.added, dtype, visit)
			}
			return visit(spec, data)
		})
		if err != nil {
			return err
		}
		for key := range wanted {
			return fmt.Errorf("no parameter %s in the model", key)
		}
		tree = tree[n:]
	}
	return nil
}

// visitExtended visits the token embeddings with more rows behind them.
func visitExtended(spec nn.Spec, data []byte, rows []float32, dtype string, visit func(spec nn.Spec, data []byte) error) error {
	width := spec.Shape[1]
	more := nn.Spec{Key: spec.Key, Shape: []int{len(rows) / width, width}}
	return checkpoint.InMemory{spec.Key: rows}.Stream(nn.Tree{more}, dtype, func(_ nn.Spec, tail []byte) error {
		spec.Shape = []int{spec.Shape[0] + more.Shape[0], width}
		return visit(spec, slices.Concat(data, tail))
	})
}

// Close closes the files.
func (w *Weights) Close() error {
	var errs []error
	for _, part := range w.parts {
		errs = append(errs, part.model.Close())
	}
	for _, c := range w.files {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
