package patch_test

import (
	"strings"
	"testing"

	"limner/xla/patch"
)

// TestManualKernels divides a call to a kernel over the devices, and nothing else.
func TestManualKernels(t *testing.T) {
	const call = `  %4, %5 = "stablehlo.custom_call"(%1, %2) { api_version = 1 : i32, call_target_name = "tpu_custom_call", backend_config = "{}" } : (tensor<8x40x64xbf16>, tensor<8x40x64xbf16>) -> (tensor<8x40x64xbf16>, tensor<8x1x64xf32>)`
	const mesh = "  sdy.mesh @mesh = <[\"data\"=4]>\n"
	const other = "\n  %6 = \"stablehlo.add\"(%4, %4) : (tensor<8x40x64xbf16>, " +
		"tensor<8x40x64xbf16>) -> tensor<8x40x64xbf16>\n"
	if got := string(patch.ManualKernels([]byte(call + other))); got != call+other {
		t.Errorf("one device: got %s", got)
	}
	got := string(patch.ManualKernels([]byte(mesh + call + other)))
	for _, want := range []string{
		mesh, other, `%4, %5 = "sdy.manual_computation"(%1, %2) <{in_shardings = #sdy.sharding_per_value<[<@mesh, [{"data"}, {}, {}]>, <@mesh, [{"data"}, {}, {}]>]>`,
		`^bb0(%kernel1_0: tensor<2x40x64xbf16>, %kernel1_1: tensor<2x40x64xbf16>):`, `-> (tensor<2x40x64xbf16>, tensor<2x1x64xf32>)`,
		`}) : (tensor<8x40x64xbf16>, tensor<8x40x64xbf16>) -> (tensor<8x40x64xbf16>, tensor<8x1x64xf32>)`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
