package patch

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/gomlx/go-xla/pkg/pjrt"
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

// populate sets what builders of a backend look for: that it has a plugin, which they do not call, and how many devices
// a mesh may have.
func populate(b *xla.Backend, devices int) error {
	inside := reflect.ValueOf(b)
	plugin, err := field(inside, "plugin", reflect.Pointer)
	numDevices, err2 := field(inside, "numDevices", reflect.Int)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if got, want := plugin.Type(), reflect.TypeFor[*pjrt.Plugin](); got != want {
		return fmt.Errorf("field plugin is a %s, want %s: use the pinned version of GoMLX", got, want)
	}
	*(**pjrt.Plugin)(unsafe.Pointer(plugin.UnsafeAddr())) = new(pjrt.Plugin)
	*(*int)(unsafe.Pointer(numDevices.UnsafeAddr())) = devices
	return nil
}
