package xla

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"limner/xla/hlo"
	"limner/xla/pjrt"
)

func TestTooLarge(t *testing.T) {
	program := hlo.Parse([]byte(`  func.func @main(%x: tensor<2x3xf32>) {
    %0 = "stablehlo.negate"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    "stablehlo.return"(%0) : (tensor<2x3xf32>) -> ()
`), []string{"net.weight"})
	refusal := &pjrt.Error{Code: pjrt.ResourceExhausted, Text: "160.75G exceeds available HBM"}
	err := tooLarge(fmt.Errorf("compile: %w", refusal), program, 1)
	var e *TooLarge
	if !errors.As(err, &e) || len(e.Largest) != 1 || e.Largest[0].Layer != "net" || !errors.Is(err, refusal) {
		t.Errorf("got %+v, want the refusal with the tensor of net", err)
	} else if !strings.Contains(err.Error(), "exceeds available HBM\nlarge: 0.00 GB 2x3xf32 in net") {
		t.Errorf("got the text %q", err)
	}
	other := &pjrt.Error{Code: 3, Text: "invalid"}
	if got := tooLarge(other, program, 2); got != error(other) {
		t.Errorf("another error became %v", got)
	}
}
