// Package cpu is all that is only for XLA on CPUs: layers of float32 in C that programs call in place of XLA's, and the
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

// Use takes a CPU plugin: the memory that it frees is kept for its next programs. It returns the layers that are faster
// than XLA's for programs on so many devices; those are for one, on which all that they are given lies.
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

// Describe says what of this package is used on this processor.
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
