package plugin

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// HostMemory returns the memory of the machine, or of the container, in total and available; 0 if unknown.
func HostMemory() (total, available int64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total = kib * 1024
		case "MemAvailable:":
			available = kib * 1024
		}
	}
	limit, used := cgroupBytes("memory.max"), cgroupBytes("memory.current")
	if limit > 0 && limit < total {
		total, available = limit, min(available, max(limit-used, 0))
	}
	return total, available
}

// cgroupBytes reads a file of the container's memory controller; 0 if there is no limit.
func cgroupBytes(file string) int64 {
	data, err := os.ReadFile("/sys/fs/cgroup/" + file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0 // "max"
	}
	return n
}
