package diffusers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/nn"
)

// Weights are networks' weights in their files, below the names of their components. They are a source of parameters,
// which are read one at a time and never all in memory.
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
	if err := p.checkVariant(); err != nil {
		return nil, err
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

// checkVariant fails where no component has weights of the variant. Where some have, the others' own are taken.
func (p *Pipeline) checkVariant() error {
	if p.variant == "" {
		return nil
	}
	for _, component := range p.Components() {
		entries, err := os.ReadDir(filepath.Join(p.Dir, component))
		if err != nil {
			continue // whoever opens it says what is wrong
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), "."+p.variant+".") || strings.Contains(e.Name(), "."+p.variant+"-") {
				return nil
			}
		}
	}
	return fmt.Errorf("variant %q: %s has no such weights: leave it out to take what there is", p.variant, p.Dir)
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

// Open adds the weights of a component from its folder or from a single file. The tree lists all of its parameters,
// without its name.
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
		return fmt.Errorf("load %s: the file has no %s, only %s",
			c.Path(), component, strings.Join(c.Components(), ", "))
	}
	w.parts[component] = part{model: m, tree: tree}
	return nil
}

// Stream is that of nn.Source, in the tree's order. The tree's keys begin with the names of components, of which it may
// list a part; all of a component is compared with its file.
func (w *Weights) Stream(tree nn.Tree, dtype string, visit nn.Visit) error {
	return w.each(tree, func(p part, component string, some nn.Tree) error {
		return p.model.StreamPart(p.tree, some, dtype, func(spec nn.Spec, write func(to []byte) error) error {
			extended := len(p.added) > 0 && spec.Key == clip.TokenTable
			spec.Key = component + "." + spec.Key
			if extended {
				return visitExtended(spec, write, p.added, dtype, visit)
			}
			return visit(spec, write)
		})
	})
}

// Sample calls visit with n elements of each parameter of a tree as Stream's, see checkpoint.Model.Sample. Rows that
// are added to token embeddings are left out.
func (w *Weights) Sample(tree nn.Tree, n int, visit func(spec nn.Spec, elements []float32) error) error {
	return w.each(tree, func(p part, component string, some nn.Tree) error {
		return p.model.Sample(p.tree, some, n, func(spec nn.Spec, elements []float32) error {
			spec.Key = component + "." + spec.Key
			return visit(spec, elements)
		})
	})
}

// Fingerprint tells components from others by a SHA-256, in hex, over the names and shapes of their parameters and four
// elements of each, as float32. So it takes no time to speak of, where reading gigabytes of weights would take seconds;
// it is the same of a folder and a single file, and weights that were trained, merged or rounded otherwise have
// another. Rows that are added to token embeddings are left out.
func (w *Weights) Fingerprint(components ...string) (string, error) {
	h := sha256.New()
	for _, component := range components {
		p, ok := w.parts[component]
		if !ok {
			return "", fmt.Errorf("no weights for %s", component)
		}
		fmt.Fprintln(h, len(p.tree))
		err := p.model.Sample(p.tree, p.tree, 4, func(spec nn.Spec, elements []float32) error {
			fmt.Fprintln(h, spec.Key, spec.Shape)
			return binary.Write(h, binary.LittleEndian, elements)
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// each calls do with the parts of a tree that are of one component, as the files have them, without its name.
func (w *Weights) each(tree nn.Tree, do func(p part, component string, some nn.Tree) error) error {
	for len(tree) > 0 {
		component, _, _ := strings.Cut(tree[0].Key, ".")
		p, ok := w.parts[component]
		if !ok {
			return fmt.Errorf("no weights for %s", component)
		}
		filed := map[string]nn.Spec{}
		for _, spec := range p.tree {
			filed[component+"."+spec.Key] = spec
		}
		var some nn.Tree
		for ; len(tree) > 0 && strings.HasPrefix(tree[0].Key, component+"."); tree = tree[1:] {
			spec, ok := filed[tree[0].Key]
			if !ok {
				return fmt.Errorf("no parameter %s in the model", tree[0].Key)
			}
			some = append(some, spec)
		}
		if err := do(p, component, some); err != nil {
			return err
		}
	}
	return nil
}

// visitExtended visits the token embeddings with more rows behind them.
func visitExtended(spec nn.Spec, write func(to []byte) error, rows []float32, dtype string, visit nn.Visit) error {
	had, width := spec.Shape[0], spec.Shape[1]
	more := nn.Spec{Key: spec.Key, Shape: []int{len(rows) / width, width}}
	return checkpoint.InMemory{spec.Key: rows}.Stream(nn.Tree{more}, dtype,
		func(_ nn.Spec, writeMore func(to []byte) error) error {
			spec.Shape = []int{had + more.Shape[0], width}
			return visit(spec, func(to []byte) error {
				n := len(to) / spec.Shape[0] * had
				return errors.Join(write(to[:n]), writeMore(to[n:]))
			})
		})
}

// Check fails if a component's file does not hold its parameters and no others.
func (w *Weights) Check() error {
	for _, p := range w.parts {
		if err := p.model.Check(p.tree); err != nil {
			return err
		}
	}
	return nil
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
