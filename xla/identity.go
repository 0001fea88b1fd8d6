package xla

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// processor is what machine code that XLA makes here depends on: the processor's kind and abilities and, since loops
// are divided over them, the number of its cores that this process may use.
func processor() string {
	abilities, err := os.ReadFile("/proc/cpuinfo")
	if err != nil { // another system: its code stays on the machine
		host, _ := os.Hostname()
		return fmt.Sprintf("%s/%s of %s, %d cores", runtime.GOOS, runtime.GOARCH, host, runtime.NumCPU())
	}
	abilities, _, _ = bytes.Cut(abilities, []byte("\n\n")) // the first core
	var kind, features string
	for line := range strings.Lines(string(abilities)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name", "CPU part":
			kind = strings.TrimSpace(value)
		case "flags", "Features":
			features = strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("%s with abilities %s, %d cores", kind, sum([]byte(features))[:12], runtime.NumCPU())
}
