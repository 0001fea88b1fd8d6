package hlo

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What is read from an operation's text.
var (
	hloTypes       = regexp.MustCompile(`: \(tensor<([^>]*)>, tensor<([^>]*)>\) -> tensor<([^>]*)>`)
	hloContracting = regexp.MustCompile(`lhs_contracting_dimensions = \[([0-9, ]*)\]`)
	hloKernel      = regexp.MustCompile(`#stablehlo\.conv<\[[^\]]*\]x\[([^\]]*)\]->`)
	hloDilation    = regexp.MustCompile(`lhs_dilation = array<i64: ([0-9, ]*)>`)
	hloKernelFLOPs = regexp.MustCompile(`\\"flops\\": (\d+)`) // as mosaic.Kernel.Config has them
)

// FLOPs counts the floating-point operations of a program by layers: one device's share of them. The configuration of a
// kernel is already that of one device.
func FLOPs(program []Statement, devices float64) (map[string]float64, error) {
	layers := map[string]float64{}
	for _, s := range live(program) {
		n, err := s.flops()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", s.operation, hloTypes.FindString(s.text), err)
		}
		if s.operation != kernelCall {
			n /= devices
		}
		if n > 0 {
			layers[s.layer] += n
		}
	}
	return layers, nil
}

const kernelCall = "stablehlo.custom_call"

// flops counts an operation's; 0 if it is of a kind that is not counted.
func (s Statement) flops() (float64, error) {
	count := dotFLOPs
	switch s.operation {
	case kernelCall:
		if m := hloKernelFLOPs.FindStringSubmatch(s.text); m != nil {
			return strconv.ParseFloat(m[1], 64)
		}
		return 0, nil
	case "stablehlo.convolution":
		count = convolutionFLOPs
	case "stablehlo.dot_general":
	default:
		return 0, nil
	}
	types := hloTypes.FindStringSubmatch(s.text)
	if types == nil {
		return 0, errors.New("no types of two operands and a result")
	}
	return count(s.text, types[1:])
}

// dotFLOPs is two for each element of the result and of the axes that are summed over.
func dotFLOPs(attributes string, types []string) (float64, error) {
	left, err := hloDims(types[0])
	if err != nil {
		return 0, err
	}
	out, err := hloDims(types[2])
	if err != nil {
		return 0, err
	}
	axes, err := hloNumbers(hloContracting, attributes)
	if err != nil {
		return 0, err
	}
	n := 2 * product(out)
	for _, axis := range axes {
		if axis >= len(left) {
			return 0, fmt.Errorf("no axis %d", axis)
		}
		n *= float64(left[axis])
	}
	return n, nil
}

// convolutionFLOPs is two for each element of the result and of the part of the kernel for one output channel.
func convolutionFLOPs(attributes string, types []string) (float64, error) {
	kernel, err := hloDims(types[1])
	if err != nil {
		return 0, err
	}
	out, err := hloDims(types[2])
	if err != nil {
		return 0, err
	}
	dilation, err := hloNumbers(hloDilation, attributes)
	if err != nil {
		return 0, err
	}
	layout := hloKernel.FindStringSubmatch(attributes)
	if layout == nil {
		return 0, fmt.Errorf("no dimension numbers")
	}
	n := 2 * product(out) * product(kernel) / product(dilation)
	for axis, name := range strings.Split(layout[1], ", ") {
		if name == "o" && axis < len(kernel) {
			return n / float64(kernel[axis]), nil
		}
	}
	return 0, fmt.Errorf("the kernel has no output channels")
}

// hloDims are the dimensions of a type such as 2x8x8x4xf32.
func hloDims(text string) ([]int, error) {
	parts := strings.Split(text, "x")
	var dims []int
	for _, part := range parts[:len(parts)-1] {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, fmt.Errorf("type %s: %w", text, err)
		}
		dims = append(dims, n)
	}
	return dims, nil
}

// hloNumbers are the numbers of an attribute.
func hloNumbers(attribute *regexp.Regexp, text string) ([]int, error) {
	found := attribute.FindStringSubmatch(text)
	if found == nil {
		return nil, fmt.Errorf("no %s", strings.Fields(attribute.String())[0])
	}
	var numbers []int
	for _, part := range strings.FieldsFunc(found[1], func(r rune) bool { return r == ',' || r == ' ' }) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

func product(dims []int) float64 {
	n := 1.0
	for _, d := range dims {
		n *= float64(d)
	}
	return n
}
