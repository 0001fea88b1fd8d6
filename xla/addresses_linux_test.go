package xla

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"golang.org/x/sys/unix"
)

// Compiling and arrays are refused where the limit of the address space leaves no room for them.
func TestAddressLimit(t *testing.T) {
	const limited = "LIMNER_TEST_ADDRESS_LIMIT"
	if os.Getenv(limited) == "" {
		command := exec.Command(os.Args[0], "-test.run", "^TestAddressLimit$", "-test.v")
		command.Env = append(os.Environ(), limited+"=1")
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	b, err := Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	limit := uint64(statusBytes(t, "VmSize") + 300<<20)
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Compile(t.Context(), walk(0.1))
	if err == nil ||
		!strings.Contains(err.Error(), "compile walk: the compiler wants 0.5 GB of address space, 0.3 GB are left") {
		t.Errorf("compiling: got %v", err)
	}
	fill := func(to []byte) error { return nil }
	_, err = Fill(b, shapes.Make(dtypes.Float32, 1<<14, 1<<14), Replicated, fill)
	if err == nil || !strings.Contains(err.Error(), "the array (Float32)[16384 16384] wants 1.1 GB of address space") {
		t.Errorf("an array: got %v", err)
	}
	a, err := Fill(b, shapes.Make(dtypes.Float32, 1<<10, 1<<10), Replicated, fill)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Free(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
