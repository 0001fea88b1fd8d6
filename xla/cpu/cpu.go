// Package cpu is all that is only for XLA on CPUs: float32 layers in C that programs call in place of XLA's, and the
// memory of a program's temporaries, which is kept from one run to the next.
package cpu

import (
	"fmt"
	"strings"

	"limner/xla/pjrt"
)

// Switch is the environment variable that turns this package off.
const Switch = "LIMNER_CPU_KERNELS"

// Enabled reads the Switch: off turns the package off, on or nothing leaves it on.
func Enabled(getenv func(string) string) (bool, error) {
	switch value := getenv(Switch); value {
	case "", "on":
		return true, nil
	case "off":
		return false, nil
	default:
		return false, fmt.Errorf("%s is %q: want on or off", Switch, value)
	}
}

// Use applies this package to a CPU plugin: the memory that it frees is kept for its next programs. It returns the
// layers that are faster than XLA's. There are none for several devices, since a layer needs all of its operands on
// one.
func Use(t pjrt.Table, devices int) Layers {
	keepBlocks(t)
	if devices > 1 || register(t) != nil {
		return Layers{}
	}
	layers := Layers{Normalization: normalize}
	if wideVectors() {
		layers.Attention, layers.Convolution = attend, convolve
	}
	return layers
}

// Describe says which parts of this package are used on this processor.
func Describe() string {
	kernels := []string{"normalization"}
	if wideVectors() {
		kernels = append(kernels, "attention", "convolutions and dense layers by AVX-512")
	}
	if matrixUnit() {
		kernels[len(kernels)-1] = "convolutions and dense layers by AMX"
	}
	return strings.Join(kernels, ", ")
}
