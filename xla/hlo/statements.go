// Package hlo reads programs: what they compute, move and keep in memory, from StableHLO's text before compiling and
// from XLA's messages after it.
package hlo

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// Statement is an operation of a program's main function, with all of its lines, or another line.
type Statement struct {
	text              string
	operation         string   // such as stablehlo.add; "" of a line that is no operation
	results, operands []string // their names
	layer             string   // of a network: the path of the parameters used last; "" before the first
}

// What is read from a program's lines: main's arguments, and the start of an operation.
var (
	argument = regexp.MustCompile(`(%\w+): tensor<`)
	begins   = regexp.MustCompile(`^    (?:(%\S+(?:, %\S+)*) = )?"([\w.]+)"\(([^)]*)\)`)
)

// Parse reads a program's text. names are the names of main's arguments, in order, by which operations are assigned to
// layers; with nil none is.
//
// The operations of a layer follow the use of its parameters. In its gradient that is nearly so: a few are assigned to
// a neighbour.
func Parse(program []byte, names []string) []Statement {
	var all []Statement
	layers := map[string]string{} // of the arguments, and of values that depend on one of them alone
	layer, open := "", false
	for line := range bytes.Lines(program) {
		text := string(line)
		if open {
			last := &all[len(all)-1]
			last.text += text
			open = !strings.HasPrefix(text, "    }") || strings.HasPrefix(text, "    }, {")
			continue
		}
		m := begins.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
		if m == nil {
			for _, a := range argument.FindAllStringSubmatch(text, -1) {
				if n := len(layers); n < len(names) {
					layers[a[1]] = layerOf(names[n])
				}
			}
			all = append(all, Statement{text: text})
			continue
		}
		s := Statement{text: text, operation: m[2], results: list(m[1]), operands: list(m[3])}
		for _, operand := range s.operands {
			if own := layers[operand]; own != "" {
				layer = own
			}
		}
		if s.layer = layer; len(s.operands) == 1 && len(s.results) == 1 && layers[s.operands[0]] != "" {
			layers[s.results[0]] = layer // a cast or another shape of a parameter
		}
		// An operation with regions or many attributes ends on a later line.
		open = !strings.Contains(text, ") -> ")
		all = append(all, s)
	}
	return all
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ", ")
}

// layerOf is the layer of a parameter; "" if name is no parameter of a network.
func layerOf(name string) string {
	at := strings.LastIndexByte(name, '.')
	if at < 0 {
		return ""
	}
	return name[:at]
}

// Named is the text of a program with the layers as locations of its operations, which compilers use as their names.
func Named(all []Statement) []byte {
	var out bytes.Buffer
	for _, s := range all {
		if s.layer == "" || len(s.results) == 0 {
			out.WriteString(s.text)
			continue
		}
		text, ended := strings.CutSuffix(s.text, "\n")
		out.WriteString(text + ` loc("` + s.layer + `")`)
		if ended {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// live are the operations that the program's results depend on. Gradients leave others behind, which compilers remove.
func live(all []Statement) []Statement {
	needed := map[string]bool{}
	var kept []Statement
	for _, s := range slices.Backward(all) {
		if s.operation == "" ||
			len(s.results) > 0 && !slices.ContainsFunc(s.results, func(name string) bool { return needed[name] }) {
			continue
		}
		for _, operand := range s.operands {
			needed[operand] = true
		}
		kept = append(kept, s)
	}
	slices.Reverse(kept)
	return kept
}

// Operations counts the operations of a program's StableHLO.
func Operations(program []byte) int { return bytes.Count(program, []byte(` = "stablehlo.`)) }
