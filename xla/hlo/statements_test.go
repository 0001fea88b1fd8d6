package hlo

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// A program of two layers with what operations look like: in one line, in several, and with a region. %7 takes a
// parameter as it was cast before, and nothing needs it.
const layers = `module @m {
  func.func @main(%param_unet_conv_weight: tensor<3x4xf32> {
    sdy.sharding = #sdy.sharding<@mesh, [{}, {}]>
  }, %unet_norm_bias: tensor<4xf32>, %latents: tensor<2x3xf32>) -> (tensor<2xf32>) {
    %0 = "stablehlo.negate"(%latents) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %1 = "stablehlo.dot_general"(%0, %param_unet_conv_weight) {
      dot_dimension_numbers = #stablehlo.dot<
  lhs_batching_dimensions = [],
  lhs_contracting_dimensions = [1],
  rhs_contracting_dimensions = [0]
>
    } : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
    %6 = "stablehlo.convert"(%param_unet_conv_weight) : (tensor<3x4xf32>) -> tensor<3x4xbf16>
    %2 = "stablehlo.broadcast_in_dim"(%unet_norm_bias) { broadcast_dimensions = array<i64: 1> } : (tensor<4xf32>) -> tensor<2x4xf32>
    %3 = "stablehlo.reduce"(%2, %1) ({
      ^reductionFn(%lhs: tensor<f32>, %rhs: tensor<f32>) :
          %4 = "stablehlo.add"(%lhs, %rhs) : (tensor<f32>, tensor<f32>) -> tensor<f32>
          "stablehlo.return"(%4) : (tensor<f32>) -> ()
    }) { dimensions = array<i64: 1> } : (tensor<2x4xf32>, tensor<f32>) -> tensor<2xf32>
    %5 = "stablehlo.custom_call"(%3) { api_version = 1 : i32, backend_config = "{\"cost_estimate\": {\"flops\": 7}}" } : (tensor<2xf32>) -> tensor<2xf32>
    %7 = "stablehlo.dot_general"(%6, %0) {
      dot_dimension_numbers = #stablehlo.dot<
  lhs_batching_dimensions = [],
  lhs_contracting_dimensions = [0],
  rhs_contracting_dimensions = [1]
>
    } : (tensor<3x4xbf16>, tensor<2x3xf32>) -> tensor<4x2xf32>
    "stablehlo.return"(%5) : (tensor<2xf32>) -> ()
  }
}
`

func TestNamed(t *testing.T) {
	program := Parse([]byte(layers), []string{"param.unet.conv.weight", "unet.norm.bias", "latents"})
	got := string(Named(program))
	want := layers
	for ending, layer := range map[string]string{
		"tensor<3x4xf32>) -> tensor<2x4xf32>\n": "param.unet.conv", "(tensor<4xf32>) -> tensor<2x4xf32>\n": "unet.norm",
		"(tensor<2x4xf32>, tensor<f32>) -> tensor<2xf32>\n": "unet.norm",
		"(tensor<2xf32>) -> tensor<2xf32>\n":                "unet.norm",
		"(tensor<3x4xf32>) -> tensor<3x4xbf16>\n":           "param.unet.conv",
		"tensor<2x3xf32>) -> tensor<4x2xf32>\n":             "param.unet.conv",
	} {
		want = strings.Replace(want, ending, strings.TrimSuffix(ending, "\n")+` loc("`+layer+"\")\n", 1)
	}
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	count, err := FLOPs(program, 2)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]float64{"param.unet.conv": 2 * 2 * 4 * 3 / 2, "unet.norm": 7}; !maps.Equal(count, want) {
		t.Errorf("operations of a device: got %v, want %v", count, want)
	}
}

func TestLargest(t *testing.T) {
	program := Parse([]byte(layers), []string{"param.unet.conv.weight", "unet.norm.bias", "latents"})
	want := []Tensor{{"param.unet.conv", "2x4xf32", 16}, {"unet.norm", "2x4xf32", 16}, {"", "2x3xf32", 12}}
	if got := Largest(program, 2); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
