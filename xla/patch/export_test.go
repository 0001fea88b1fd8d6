package patch

import (
	"reflect"

	"github.com/gomlx/go-xla/pkg/stablehlo"
)

// What the tests see of the sampler's inside.
var (
	Threefry        = threefry
	UniformFromBits = uniformFromBits
	NormalFromBits  = normalFromBits
)

// FunctionIn reads the function that a builder of any layout is building.
func FunctionIn(builder any) error {
	_, err := pointer[stablehlo.Function](reflect.ValueOf(builder), "fn")
	return err
}
