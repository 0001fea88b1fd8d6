package xla

import (
	"errors"
	"fmt"

	"limner/xla/hlo"
	"limner/xla/pjrt"
)

// FLOPs is how many floating-point operations the program's matrix products, convolutions and kernels take in one run,
// over all devices: two for each product that is added up, none for zeros that a gradient puts between its elements,
// and none for what no result needs. Everything else is left out, as is usual for the figures that are compared with a
// device's peak.
func (p *Program) FLOPs() (float64, error) {
	layers, err := p.flops(nil)
	return layers[""] * float64(p.backend.n), err
}

// FLOPsByLayer is one device's share of FLOPs, by the layer of each operation, as in [hlo.Traffic].
func (p *Program) FLOPsByLayer() (map[string]float64, error) { return p.flops(inputNames(p.inputs)) }

func (p *Program) flops(names []string) (map[string]float64, error) {
	devices := p.backend.n // over which the text's operations are divided
	if p.apart {
		devices = 1
	}
	layers, err := hlo.FLOPs(hlo.Parse(p.text, names), float64(devices))
	if err != nil {
		return nil, fmt.Errorf("count operations of %s: %w", p.name, err)
	}
	return layers, nil
}

func inputNames(inputs []Value) []string {
	names := make([]string, len(inputs))
	for i, in := range inputs {
		names[i] = in.Name
	}
	return names
}

// Traffic counts the traffic of a planned program.
func (p *Program) Traffic() (hlo.Traffic, error) {
	code, format, err := p.executable.OptimizedProgram()
	if err != nil {
		return hlo.Traffic{}, err
	}
	if format == "hlo_with_config" {
		code = hlo.BytesField(code, 1)
	}
	t, err := hlo.CountTraffic(code)
	if err != nil {
		return hlo.Traffic{}, fmt.Errorf("read the optimised program: %w", err)
	}
	return t, nil
}

// TooLarge is the error of a program that does not fit a planned device's memory.
type TooLarge struct {
	Refusal *pjrt.Error  // the compiler's
	Largest []hlo.Tensor // the layers with the largest ones, one of each
}

func (e *TooLarge) Error() string {
	text := e.Refusal.Text
	for _, t := range e.Largest {
		text += "\nlarge: " + t.String()
	}
	return text
}

func (e *TooLarge) Unwrap() error { return e.Refusal }

// tooLarge is an error of compiling a program as a TooLarge if it says that the program does not fit, and the error
// itself otherwise.
func tooLarge(err error, program []hlo.Statement, devices int) error {
	if refusal := OutOfMemory(err); refusal != nil {
		return &TooLarge{refusal, hlo.Largest(program, devices)}
	}
	return err
}

// OutOfMemory is what a plugin says of a program that does not fit a device's memory; nil if err is no such error.
func OutOfMemory(err error) *pjrt.Error {
	var refusal *pjrt.Error
	if errors.As(err, &refusal) && refusal.Code == pjrt.ResourceExhausted {
		return refusal
	}
	return nil
}
