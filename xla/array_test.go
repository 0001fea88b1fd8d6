package xla

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/dtypes/bfloat16"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

func TestPutBytes(t *testing.T) {
	b, err := Open(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	raw := []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0} // 1 and -2 in float32; 0, 1, 0, -2 in bfloat16
	odd := append([]byte{7}, raw...)[1:]           // at an odd address, most likely
	for _, data := range [][]byte{raw, odd} {
		a, err := PutBytes(b, data, shapes.Make(dtypes.Float32, 2), Replicated)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Get[float32](a); err != nil || got[0] != 1 || got[1] != -2 {
			t.Errorf("float32: got %v, %v", got, err)
		}
		if a, err = PutBytes(b, data, shapes.Make(dtypes.BFloat16, 2, 2), Replicated); err != nil {
			t.Fatal(err)
		}
		if got, err := Get[bfloat16.BFloat16](a); err != nil || got[1].Float32() != 1 || got[3].Float32() != -2 {
			t.Errorf("bfloat16: got %v, %v", got, err)
		}
	}
	want := "8 bytes for an array of shape (Float32)[3], want 12"
	_, err = PutBytes(b, raw, shapes.Make(dtypes.Float32, 3), Replicated)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestFill compares arrays that are filled, on one device, where they lie, and on two, with arrays that are put.
func TestFill(t *testing.T) {
	for _, devices := range []int{1, 2} {
		b, err := Open(context.Background(), Options{Devices: devices})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		const n = 1 << 10
		for _, dtype := range []dtypes.DType{dtypes.Uint8, dtypes.Float16, dtypes.BFloat16, dtypes.Float32} {
			for _, sharding := range []Sharding{Replicated, Along(1)} {
				var written []byte
				a, err := Fill(b, shapes.Make(dtype, 2, n), sharding, func(to []byte) error {
					for i := range to {
						to[i] = byte(i*7) &^ 0x40 // of no dtype NaN
					}
					written = slices.Clone(to)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				want, err := PutBytes(b, written, shapes.Make(dtype, 2, n), sharding)
				if err != nil {
					t.Fatal(err)
				}
				for i := range a.shards {
					part := 2 * n * dtype.Size()
					if sharding != Replicated {
						part /= devices
					}
					got, err := a.shards[i].Bytes(part)
					if err != nil {
						t.Fatal(err)
					}
					if like, err := want.shards[i].Bytes(part); err != nil || !bytes.Equal(got, like) {
						t.Errorf("%d devices, %s: a part differs from what is put (%v)", devices, a.shape, err)
					}
				}
				if len(written) != 2*n*dtype.Size() || a.shape.DType != dtype || a.sharding != sharding {
					t.Errorf("%d devices: %d bytes were written of %s", devices, len(written), a.shape)
				}
			}
		}
		if _, err := Fill(b, shapes.Make(dtypes.Float32, 8), Replicated,
			func([]byte) error { return os.ErrClosed }); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%d devices: got %v, want what write returned", devices, err)
		}
	}
}

// What is put comes back, along whatever axis it is divided.
func TestAlong(t *testing.T) {
	b, err := Open(context.Background(), Options{Devices: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data := make([]float32, 4*3*8)
	for i := range data {
		data[i] = float32(i)
	}
	for _, sharding := range []Sharding{Replicated, Batch, Along(0), Along(2)} {
		a, err := Put(b, data, sharding, 4, 3, 8)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Get[float32](a)
		if err != nil || !slices.Equal(got, data) {
			t.Errorf("sharding %d: got %v, %v", sharding, got, err)
		}
	}
	a, err := Put(b, data, Along(2), 4, 3, 8)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]float32, 4*3*2)
	if err := a.shards[1].Get(bytesOf(part), 3); err != nil || part[0] != 2 || part[1] != 3 || part[2] != 10 {
		t.Errorf("the second device holds %v (%v), want columns 2 and 3", part, err)
	}
	if _, err := Put(b, data, Along(1), 4, 3, 8); err == nil ||
		!strings.Contains(err.Error(), "axis 1 of shape (Float32)[4 3 8] does not divide over 4 devices") {
		t.Errorf("axis 1: got %v", err)
	}
	for want, dims := range map[Sharding][]int{Along(2): {4, 3, 8}, Along(0): {8, 3, 4}, Replicated: {3, 3}} {
		if got := b.Divided(shapes.Make(dtypes.Float32, dims...)); got != want {
			t.Errorf("%v: got sharding %d, want %d", dims, got, want)
		}
	}
}
