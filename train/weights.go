package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
)

// Weights are the parameters that a run begins with, below the names of their networks. They are read where they are
// needed, so that what a model's files hold need not be in this machine's memory beside the devices'.
type Weights interface {
	nn.Source
	// Sample calls visit with n elements of each parameter of the tree, in any order, spread evenly over it; with all
	// elements of smaller ones.
	Sample(tree nn.Tree, n int, visit func(spec nn.Spec, elements []float32) error) error
}

// startWeights are those of files, some with others in their place or beside them.
type startWeights struct {
	files  Weights           // may be nil where nothing is asked of them
	values nn.Values         // in place of those of the files, or beside them
	copied map[string]string // parameters that are copies, by their keys: the files' keys
}

// Stream is that of nn.Source.
func (w startWeights) Stream(tree nn.Tree, dtype string, visit nn.Visit) error {
	return w.each(tree, func(from Weights, part nn.Tree, asked func(nn.Spec) nn.Spec) error {
		return from.Stream(part, dtype, func(spec nn.Spec, write func(to []byte) error) error {
			return visit(asked(spec), write)
		})
	})
}

// Sample is that of Weights.
func (w startWeights) Sample(tree nn.Tree, n int, visit func(spec nn.Spec, elements []float32) error) error {
	return w.each(tree, func(from Weights, part nn.Tree, asked func(nn.Spec) nn.Spec) error {
		return from.Sample(part, n, func(spec nn.Spec, elements []float32) error {
			return visit(asked(spec), elements)
		})
	})
}

// each calls do with the parts of a tree that come from one place, under the keys that they have there: asked gives
// back the tree's.
func (w startWeights) each(tree nn.Tree, do func(from Weights, part nn.Tree, asked func(nn.Spec) nn.Spec) error) error {
	var inMemory, inFiles, copied nn.Tree
	copies := map[string]string{}
	for _, spec := range tree {
		from, isCopy := w.copied[spec.Key]
		if w.values[spec.Key] != nil {
			inMemory = append(inMemory, spec)
		} else if isCopy {
			copies[from] = spec.Key
			spec.Key = from
			copied = append(copied, spec)
		} else {
			inFiles = append(inFiles, spec)
		}
	}
	asIs := func(spec nn.Spec) nn.Spec { return spec }
	original := func(spec nn.Spec) nn.Spec {
		spec.Key = copies[spec.Key]
		return spec
	}
	for _, one := range []struct {
		from  Weights
		part  nn.Tree
		asked func(nn.Spec) nn.Spec
	}{{checkpoint.InMemory(w.values), inMemory, asIs}, {w.files, inFiles, asIs}, {w.files, copied, original}} {
		if len(one.part) == 0 {
			continue
		}
		if err := do(one.from, one.part, one.asked); err != nil {
			return err
		}
	}
	return nil
}

// with are the weights with what was trained in its place.
func (w startWeights) with(trained nn.Values) startWeights {
	w.values = nn.Merge(w.values, trained)
	return w
}

// save publishes the whole model, one network after the other.
func (w startWeights) save(model *diffusers.Pipeline, dir string) error {
	return model.SaveEach(dir, "F32", func(component string) (nn.Values, error) {
		return checkpoint.Collect(w, model.Tree(component).Under(component))
	})
}

// Close closes the files.
func (w startWeights) Close() error {
	if files, ok := w.files.(io.Closer); ok {
		return files.Close()
	}
	return nil
}

// fingerprint tells weights from others by some elements of each, without the seconds that reading all of them takes.
func fingerprint(tree nn.Tree, weights Weights) (string, error) {
	elements := map[string][]float32{}
	err := weights.Sample(tree, 4, func(spec nn.Spec, some []float32) error {
		elements[spec.Key] = some
		return nil
	})
	h := sha256.New()
	for _, spec := range tree {
		fmt.Fprintln(h, spec)
		err = errors.Join(err, binary.Write(h, binary.LittleEndian, elements[spec.Key]))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), err
}
