package patch

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/gomlx/go-xla/pkg/pjrt"
	"github.com/gomlx/go-xla/pkg/stablehlo"
	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/xla"
)

// field returns the unexported field of a struct that v points to, or an error if there is none of that kind.
func field(v reflect.Value, name string, kind reflect.Kind) (reflect.Value, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return reflect.Value{}, fmt.Errorf("read field %s of %s: it is nil", name, v.Type())
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}, fmt.Errorf("read field %s of %s: not a struct: use the pinned version of GoMLX",
			name, v.Type())
	}
	f := v.FieldByName(name)
	if !f.IsValid() || f.Kind() != kind {
		return reflect.Value{}, fmt.Errorf("%s has no field %s of kind %s: use the pinned version of GoMLX",
			v.Type(), name, kind)
	}
	return f, nil
}

// pointer returns the pointer to a T that is an unexported field of the struct that v points to.
func pointer[T any](v reflect.Value, name string) (*T, error) {
	f, err := field(v, name, reflect.Pointer)
	if err != nil {
		return nil, err
	}
	if want := reflect.TypeFor[*T](); f.Type() != want {
		return nil, fmt.Errorf("field %s is a %s, want %s: use the pinned version of GoMLX", name, f.Type(), want)
	}
	if f.IsNil() {
		return nil, fmt.Errorf("field %s of type %s is nil", name, f.Type())
	}
	return (*T)(f.UnsafePointer()), nil
}

// address follows a path of unexported pointer fields and returns the last, a pointer into C.
func address(v reflect.Value, path ...string) (unsafe.Pointer, error) {
	for _, name := range path {
		var err error
		if v, err = field(v, name, reflect.Pointer); err != nil {
			return nil, err
		}
	}
	if v.IsNil() {
		return nil, fmt.Errorf("pointer %v is nil", path)
	}
	return v.UnsafePointer(), nil
}

// mainFunction returns the function that b is building.
func mainFunction(b *xla.Builder) (*stablehlo.Function, error) {
	return pointer[stablehlo.Function](reflect.ValueOf(b), "fn")
}

// stableHLO returns the text of the finished program of b.
func stableHLO(b *xla.Builder) ([]byte, error) {
	inner, err := pointer[stablehlo.Builder](reflect.ValueOf(b), "builder")
	if err != nil {
		return nil, err
	}
	return inner.Build()
}

// loadedExecutable returns go-xla's executable inside GoMLX's.
func loadedExecutable(executable backends.Executable) (*pjrt.LoadedExecutable, error) {
	e, ok := executable.(*xla.Executable)
	if !ok {
		return nil, fmt.Errorf("executable is a %T, want %T", executable, e)
	}
	return pointer[pjrt.LoadedExecutable](reflect.ValueOf(e), "exec")
}
