// Package hlo reads programs: what they compute, move and hold, from StableHLO's text before compiling and from XLA's
// messages after it.
package hlo

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// Statement is an operation of a program's main function, with all lines that it takes, or a line that is none.
type Statement struct {
	text              string
	operation         string   // such as stablehlo.add; "" of a line that is none
	results, operands []string // their names
	layer             string   // of a network: the path of the parameters that were used last up to here; "" of none
}

// What is read of a program's lines: main's arguments, and where an operation begins.
var (
	argument = regexp.MustCompile(`(%\w+): tensor<`)
	begins   = regexp.MustCompile(`^    (?:(%\S+(?:, %\S+)*) = )?"([\w.]+)"\(([^)]*)\)`)
)

// Parse reads a program's text. names are those of main's arguments, in order, which give the operations their layers;
// nil gives none.
//
// A layer's operations follow the use of its parameters. Those of its gradient do nearly, so that a few are taken for a
// neighbour's.
func Parse(program []byte, names []string) []Statement {
	var all []Statement
	layers := map[string]string{} // of the arguments, and of what is made of one of them alone
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
			if of := layers[operand]; of != "" {
				layer = of
			}
		}
		if s.layer = layer; len(s.operands) == 1 && len(s.results) == 1 && layers[s.operands[0]] != "" {
			layers[s.results[0]] = layer // a cast or another shape of a parameter
		}
		// An operation with regions or many attributes ends in a line of its own.
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

// layerOf is the layer of a parameter; "" of what is no parameter of a network.
func layerOf(name string) string {
	at := strings.LastIndexByte(name, '.')
	if at < 0 {
		return ""
	}
	return name[:at]
}

// Named is the text of a program with the layers as the locations of its operations, which compilers call them by.
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

// live are the operations whose results the program's results need. Gradients leave others, which compilers take out.
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
