package patch

import (
	"reflect"
	"unsafe"

	"github.com/gomlx/gomlx/backends"
)

// Spread says that programs run on more devices than this process has: n of all processes, of which local are its own.
// GoMLX and go-xla take a process to have all devices of a program: the one refuses a mesh of more than its own, the
// other tells PJRT that it brings the buffers of all.
func (b *Backend) Spread(n, local int) error {
	b.local = local
	return setInt(reflect.ValueOf(b.Backend), "numDevices", n)
}

// restrict makes an executable take and give the buffers of this process's devices alone.
func restrict(executable backends.Executable, local int) error {
	loaded, err := loadedExecutable(executable)
	if err != nil {
		return err
	}
	if err := setInt(reflect.ValueOf(executable), "numDevices", local); err != nil {
		return err
	}
	return setInt(reflect.ValueOf(loaded), "numPartitions", local)
}

// setInt sets an unexported field of the struct that v points to.
func setInt(v reflect.Value, name string, to int) error {
	f, err := field(v, name, reflect.Int)
	if err == nil {
		*(*int)(unsafe.Pointer(f.UnsafeAddr())) = to
	}
	return err
}
