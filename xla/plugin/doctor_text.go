package plugin

import (
	"fmt"
	"strings"
)

// Text is the report for people.
func (r Report) Text() string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s "+format+"\n", append([]any{label}, args...)...)
	}
	line("backend", "%s, %d %s", r.Backend, len(r.Devices), plural(len(r.Devices), "device"))
	for _, d := range r.Devices {
		memory := "does not report its memory"
		if d.MemoryBytes > 0 {
			memory = fmt.Sprintf("%s of memory, %s in use", gigabytes(d.MemoryBytes), gigabytes(d.InUseBytes))
		}
		line("", "%s (%s), %s", d.Name, d.Kind, memory)
	}
	if r.Plugin.Path != "" {
		line("plugin", "%s", r.Plugin.Path)
		if r.Plugin.Package != "" {
			state := "" // a problem says what is wrong
			if r.Plugin.Checked {
				state = ", its sha256 checked"
			}
			line("", "%s %s%s", r.Plugin.Package, r.Plugin.Version, state)
		}
	}
	if r.Plugin.API != "" {
		line("", "PJRT API %s, limner is built against %s", r.Plugin.API, r.Plugin.HeaderAPI)
	}
	memory := "memory unknown"
	if r.Machine.MemoryBytes > 0 {
		memory = fmt.Sprintf("%s of memory, %s available",
			gigabytes(r.Machine.MemoryBytes), gigabytes(r.Machine.AvailableMemory))
	}
	line("machine", "%s/%s, %d %s, %s, %s", r.Machine.OS, r.Machine.Arch, r.Machine.Cores,
		plural(r.Machine.Cores, "core"), memory, r.Machine.Go)
	if r.Machine.Kernels != "" {
		line("", "limner's own kernels for XLA on CPUs: %s", r.Machine.Kernels)
	}
	label := "folders"
	for _, f := range r.Folders {
		state := ""
		if f.TotalBytes > 0 {
			state = fmt.Sprintf(": %s free of %s", gigabytes(f.FreeBytes), gigabytes(f.TotalBytes))
		}
		if !f.Exists {
			state += ", not made yet"
		}
		if !f.Writable {
			state += ", cannot be written"
		}
		line(label, "%s, %s%s", f.Name, f.Path, state)
		label = ""
	}
	for _, p := range r.Problems {
		line("PROBLEM", "%s", p.What)
		line("  do", "%s", p.Do)
	}
	if r.OK {
		line("result", "nothing is wrong")
	}
	return b.String()
}

// gigabytes writes a size in units of 10⁹ bytes.
func gigabytes(n int64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
