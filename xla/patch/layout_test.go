package patch_test

import (
	"strings"
	"testing"

	"github.com/gomlx/go-xla/pkg/stablehlo"

	"limner/xla/patch"
)

// Another layout than the pinned version's is an error.
func TestLayout(t *testing.T) {
	function := &stablehlo.Function{}
	for _, c := range []struct {
		name    string
		builder any
		want    string
	}{
		{"as pinned", &struct{ fn *stablehlo.Function }{function}, ""},
		{"renamed", &struct{ main *stablehlo.Function }{function}, "has no field fn"},
		{"by value", &struct{ fn stablehlo.Function }{}, "has no field fn of kind ptr"},
		{"another type", &struct{ fn *stablehlo.Builder }{&stablehlo.Builder{}}, "want *stablehlo.Function"},
		{"nil", &struct{ fn *stablehlo.Function }{}, "is nil"},
		{"no struct", new(int), "not a struct"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := patch.FunctionIn(c.builder)
			if c.want == "" && err != nil {
				t.Error(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}
