package patch

import (
	"reflect"

	"github.com/gomlx/go-xla/pkg/stablehlo"
)

// FunctionIn reads the function that a builder of any layout is building.
func FunctionIn(builder any) error {
	_, err := pointer[stablehlo.Function](reflect.ValueOf(builder), "fn")
	return err
}
