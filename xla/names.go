package xla

import (
	"bytes"
	"regexp"
	"strings"
)

// What is read of a program's lines: where its operations begin and end, and which of main's arguments they take.
var (
	argument  = regexp.MustCompile(`%([A-Za-z_]\w*): tensor<`)
	mentioned = regexp.MustCompile(`%([A-Za-z_]\w*)`)
	operation = regexp.MustCompile(`^    (?:%\S+, )*%\S+ = "`)
)

// named gives the operations of a program's text locations, which compilers call them by: the layer whose parameters were the last to be used up to
// there. A layer's operations follow the use of its parameters; those of its gradient do nearly, so that some are called by a neighbour. names are those
// of main's arguments, in order.
func named(program []byte, names []string) []byte {
	layers := map[string]string{} // by argument
	layer, open := "", false
	var out bytes.Buffer
	for line := range bytes.Lines(program) {
		text := strings.TrimSuffix(string(line), "\n")
		begins := operation.MatchString(text)
		if !begins && !open {
			for _, m := range argument.FindAllStringSubmatch(text, -1) {
				if n := len(layers); n < len(names) {
					layers[m[1]] = layerOf(names[n])
				}
			}
			out.Write(line)
			continue
		}
		if begins {
			for _, m := range mentioned.FindAllStringSubmatch(text, -1) {
				if l := layers[m[1]]; l != "" {
					layer = l
				}
			}
		}
		// An operation with regions or many attributes ends in a line of its own.
		if begins {
			open = !strings.Contains(text, ") -> ")
		} else {
			open = !strings.HasPrefix(text, "    }") || strings.HasPrefix(text, "    }, {")
		}
		out.WriteString(text)
		if !open && layer != "" {
			out.WriteString(` loc("` + layer + `")`)
		}
		if len(text) < len(line) {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// layerOf is the layer of a parameter; "" of what is no parameter of a network.
func layerOf(name string) string {
	at := strings.LastIndexByte(name, '.')
	if at < 0 {
		return ""
	}
	return name[:at]
}

func inputNames(inputs []Value) []string {
	names := make([]string, len(inputs))
	for i, in := range inputs {
		names[i] = in.Name
	}
	return names
}
