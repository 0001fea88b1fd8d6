package xla

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/gomlx/gomlx/pkg/core/distributed"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/xla/pjrt"
	"limner/xla/plugin"
)

// dataAxis is the mesh's axis over which batches are divided.
const dataAxis = "data"

// Sharding says how an array lies on the devices.
type Sharding int

const (
	// Replicated arrays are whole on every device.
	Replicated Sharding = iota
	// Batch arrays are divided along their first axis.
	Batch
)

// Along is the sharding that divides arrays along an axis.
func Along(axis int) Sharding { return Batch + Sharding(axis) }

// axis is the one that is divided; -1 for none.
func (s Sharding) axis() int { return int(s) - int(Batch) }

// Divided is a sharding under which each device holds as small a part of an array of that shape as it may: along the
// longest axis that divides over the devices, if there is one.
func (b *Backend) Divided(shape shapes.Shape) Sharding {
	sharding, longest := Replicated, 0
	for axis, n := range shape.Dimensions {
		if b.n > 1 && n%b.n == 0 && n > longest {
			sharding, longest = Along(axis), n
		}
	}
	return sharding
}

// Array is a tensor on the devices.
type Array struct {
	backend  *Backend
	shape    shapes.Shape // of the whole
	sharding Sharding
	shards   []*pjrt.Buffer // one for each device of this process
}

// Shape is the shape of the whole array.
func (a *Array) Shape() shapes.Shape { return a.shape }

// Sharding is how the array lies on the devices.
func (a *Array) Sharding() Sharding { return a.sharding }

// Free releases the array's memory on the devices. An array that was donated to a program is already free.
func (a *Array) Free() error {
	for _, shard := range a.shards {
		if err := shard.Close(); err != nil {
			return err
		}
	}
	a.shards = nil
	return nil
}

// FreeAll releases arrays, as Free does; of nil there is nothing to release.
func FreeAll(arrays []*Array) error {
	var errs []error
	for _, a := range arrays {
		if a != nil {
			errs = append(errs, a.Free())
		}
	}
	return errors.Join(errs...)
}

// Put copies a flat slice, row-major, to the devices. The axis that is divided must divide over them.
func Put[T dtypes.Supported](b *Backend, data []T, sharding Sharding, dims ...int) (*Array, error) {
	shape := shapes.Make(dtypes.FromGenericsType[T](), dims...)
	if len(data) != shape.Size() {
		return nil, fmt.Errorf("%d values for an array of shape %s", len(data), shape)
	}
	return PutBytes(b, bytesOf(data), shape, sharding)
}

// PutBytes is Put for the bytes of an array of the given shape, little-endian.
func PutBytes(b *Backend, data []byte, shape shapes.Shape, sharding Sharding) (*Array, error) {
	if want := int(shape.Memory()); len(data) != want {
		return nil, fmt.Errorf("%d bytes for an array of shape %s, want %d", len(data), shape, want)
	}
	a := &Array{backend: b, shape: shape, sharding: sharding}
	part, err := b.shardShape(shape, sharding)
	if err != nil {
		return nil, err
	}
	for i, device := range b.local {
		piece := data
		if b.n > 1 && sharding != Replicated {
			piece = make([]byte, 0, part.Memory())
			eachRun(shape, sharding, b.n, b.first+i, func(from, to int) { piece = append(piece, data[from:to]...) })
		}
		if err := a.add(device, piece, part); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// add copies a part of the array to the next device, or makes room for it there if data is nil.
func (a *Array) add(device int, data []byte, part shapes.Shape) error {
	client := a.backend.client
	if client == nil {
		return fmt.Errorf("copy %s to %s: it is only planned for", part, a.backend.kind)
	}
	err := plugin.CheckAddresses("the array "+part.String(), int64(part.Memory()))
	var buffer *pjrt.Buffer
	switch {
	case err != nil:
	case data == nil:
		buffer, err = client.Reserve(device, int(part.DType), part.Dimensions)
	default:
		buffer, err = client.Put(device, data, int(part.DType), part.Dimensions)
	}
	if err != nil {
		return fmt.Errorf("copy %s to device %d: %w", part, device, err)
	}
	a.shards = append(a.shards, buffer)
	return nil
}

// bytesOf are the bytes of numbers, where they lie.
func bytesOf[T any](data []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*int(unsafe.Sizeof(one)))
}

// scratch is for Fill, of *[]byte.
var scratch sync.Pool

// Fill is PutBytes for bytes that write puts into all of to. On a single CPU device, to is where the array lies, unless
// its plugin is an old one.
func Fill(b *Backend, shape shapes.Shape, sharding Sharding, write func(to []byte) error) (*Array, error) {
	n := int(shape.Memory())
	if !b.CPU() || b.n > 1 || !b.table.Reserves() {
		to, ok := scratch.Get().(*[]byte)
		if !ok {
			to = new([]byte)
		}
		defer scratch.Put(to)
		*to = slices.Grow((*to)[:0], n)[:n]
		if err := write(*to); err != nil {
			return nil, err
		}
		return PutBytes(b, *to, shape, sharding)
	}
	a := &Array{backend: b, shape: shape, sharding: sharding}
	if err := a.add(b.local[0], nil, shape); err != nil {
		return nil, err
	}
	to, err := a.shards[0].Bytes(n)
	if err == nil {
		populate(to)
		err = write(to)
	}
	if err != nil {
		return nil, errors.Join(err, a.Free())
	}
	return a, nil
}

// Get copies an array to a flat slice, row-major. Where its parts are with several processes, all must get it.
func Get[T dtypes.Supported](a *Array) ([]T, error) {
	data := make([]T, a.shape.Size())
	if err := GetInto(a, data); err != nil {
		return nil, err
	}
	return data, nil
}

// GetInto is Get into a slice of the array's size.
func GetInto[T dtypes.Supported](a *Array, data []T) error {
	if want := dtypes.FromGenericsType[T](); want != a.shape.DType || len(data) != a.shape.Size() {
		return fmt.Errorf("read an array of %s into %d values of %s", a.shape, len(data), want)
	}
	if a.sharding != Replicated && len(a.shards) < a.backend.n {
		whole, err := a.gathered()
		if err != nil {
			return fmt.Errorf("gather %s: %w", a.shape, err)
		}
		return errors.Join(GetInto(whole, data), whole.Free())
	}
	shards := a.shards
	if a.sharding == Replicated {
		shards = shards[:1]
	}
	whole := bytesOf(data)
	for device, shard := range shards {
		piece := whole
		if len(shards) > 1 {
			piece = make([]byte, len(whole)/len(shards))
		}
		if err := shard.Get(piece, a.shape.Rank()); err != nil {
			return fmt.Errorf("copy %s from device %d: %w", a.shape, device, err)
		}
		if len(shards) > 1 {
			eachRun(a.shape, a.sharding, len(shards), device, func(from, to int) {
				copy(whole[from:to], piece)
				piece = piece[to-from:]
			})
		}
	}
	return nil
}

// eachRun calls visit with the runs of a flat array's bytes that one of n devices holds, in order.
func eachRun(shape shapes.Shape, sharding Sharding, n, device int, visit func(from, to int)) {
	run := shape.DType.Size() // bytes of one device between two of the next's
	for _, dim := range shape.Dimensions[sharding.axis():] {
		run *= dim
	}
	run /= n
	for from := device * run; from < int(shape.Memory()); from += n * run {
		visit(from, from+run)
	}
}

// shardShape is the shape of one device's part.
func (b *Backend) shardShape(shape shapes.Shape, sharding Sharding) (shapes.Shape, error) {
	if sharding == Replicated || b.n == 1 {
		return shape, nil
	}
	axis := sharding.axis()
	if axis >= shape.Rank() || shape.Dim(axis)%b.n != 0 {
		if sharding == Batch {
			return shape, fmt.Errorf("batch of shape %s does not divide over %d devices: use a multiple of %d",
				shape, b.n, b.n)
		}
		return shape, fmt.Errorf("axis %d of shape %s does not divide over %d devices", axis, shape, b.n)
	}
	part := shape.Clone()
	part.Dimensions[axis] /= b.n
	return part, nil
}

// spec is the sharding in GoMLX's terms; nil with one device.
func (b *Backend) spec(shape shapes.Shape, sharding Sharding) (*distributed.ShardingSpec, error) {
	if b.mesh == nil {
		return nil, nil
	}
	if _, err := b.shardShape(shape, sharding); err != nil {
		return nil, err
	}
	builder := distributed.BuildSpec(b.mesh)
	for axis := range shape.Rank() {
		if axis == sharding.axis() {
			builder = builder.S(dataAxis)
		} else {
			builder = builder.R()
		}
	}
	return builder.Done()
}
