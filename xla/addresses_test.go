package xla

import (
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"
)

// What a limit of the address space does not hold is refused in one sentence, before it is taken.
func TestAddressLimit(t *testing.T) {
	b, err := Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	set := func(limit, left int64) {
		addressSpace = func() (int64, int64, bool) { return limit, left, true }
	}
	defer func() { addressSpace = limitOfAddresses }()

	set(1<<30, 1<<29)
	if err := checkAddressLimit(); err == nil || !strings.Contains(err.Error(), "only 1.1 GB of address space (ulimit -v), XLA wants at least ") {
		t.Errorf("a plugin: got %v", err)
	}
	set(1<<40, 1<<20)
	if err := checkAddressLimit(); err != nil {
		t.Errorf("a high limit: %v", err)
	}
	if _, err := b.Compile(t.Context(), walk(0.1)); err == nil || !strings.Contains(err.Error(), "compile walk: the compiler wants 0.5 GB of address space, 0.0 GB are left") {
		t.Errorf("compiling: got %v", err)
	}
	big := shapes.Make(dtypes.Float32, 1<<10, 1<<10)
	fill := func(to []byte) error { return nil }
	if _, err := Fill(b, big, Replicated, fill); err == nil || !strings.Contains(err.Error(), "the array (Float32)[1024 1024] wants 0.0 GB of address space") {
		t.Errorf("an array: got %v", err)
	}
	set(1<<40, 1<<30)
	a, err := Fill(b, big, Replicated, fill)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Free(); err != nil {
		t.Error(err)
	}
}
