package program

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/xla"
)

// Arrays are arrays on the devices by name.
type Arrays map[string]*xla.Array

// Parameters describes those of a tree, which are only read: each by its key, in a dtype and whole on every device.
func Parameters(tree nn.Tree, dtype dtypes.DType) []xla.Value {
	values := make([]xla.Value, len(tree))
	for i, spec := range tree {
		values[i] = xla.Value{Name: spec.Key, Shape: shapes.Make(dtype, spec.Shape...), Class: xla.FrozenParameters}
	}
	return values
}

// Load puts the parameters of a tree on the devices, each as its value says, under that value's name: values has one
// for each of the tree, in its order, all of one dtype. It fails with what failed to load; what was loaded stays.
func (a Arrays) Load(b *xla.Backend, weights nn.Source, tree nn.Tree, values []xla.Value) error {
	if len(tree) == 0 {
		return nil
	}
	places := make(map[string]xla.Value, len(tree))
	for i, spec := range tree {
		places[spec.Key] = values[i]
	}
	put := func(spec nn.Spec, write func(to []byte) error) error {
		v := places[spec.Key]
		x, err := xla.Fill(b, v.Shape, v.Sharding, write)
		if err == nil {
			err = a.Set(v.Name, x)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", spec.Key, err)
		}
		return nil
	}
	return weights.Stream(tree, nn.FileDType(values[0].Shape.DType), put)
}

// PutZeros puts arrays of zeros on the devices. What was made before an error is given with it.
func PutZeros(b *xla.Backend, values []xla.Value) (Arrays, error) {
	arrays := make(Arrays, len(values))
	for _, v := range values {
		x, err := xla.Fill(b, v.Shape, v.Sharding, func(to []byte) error {
			clear(to)
			return nil
		})
		if err != nil {
			return arrays, fmt.Errorf("%s: %w", v.Name, err)
		}
		arrays[v.Name] = x
	}
	return arrays, nil
}

// Set makes x the array of a name. One that is there is freed and stays, with x's contents: others may hold it.
func (a Arrays) Set(name string, x *xla.Array) error {
	old := a[name]
	if old == nil {
		a[name] = x
		return nil
	}
	err := old.Free()
	*old = *x
	return err
}

// GetScalar copies a number from the devices.
func GetScalar(a *xla.Array) (float32, error) {
	var x [1]float32
	err := xla.GetInto(a, x[:])
	return x[0], err
}

// With is a copy of a with the arrays of others.
func (a Arrays) With(others Arrays) Arrays {
	all := maps.Clone(a)
	maps.Copy(all, others)
	return all
}

// Free releases the arrays on the devices. They keep their places, for Set.
func (a Arrays) Free() error { return xla.FreeAll(slices.Collect(maps.Values(a))) }
