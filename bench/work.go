package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"limner/xla"
)

// workerArg is the argument that makes this program our side's worker.
const workerArg = "worker"

// work is our side's worker: see worker for what it reads and prints. It compiles, unless cache names a folder with the
// compiled programs.
func work(ctx context.Context, name, cache string, in io.Reader, out io.Writer) (err error) {
	chosen, err := choose([]string{name})
	if err != nil {
		return err
	}
	if read := chosen[0].read; read != nil {
		load, err := read(ctx)
		if err != nil {
			return err
		}
		return load.serve(in, out)
	}
	b, err := xla.Open(ctx, xla.Options{Log: os.Stderr, Cache: cache})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	load, err := chosen[0].start(ctx, b)
	if err != nil {
		return err
	}
	return load.serve(in, out)
}

// serve makes as many steps as each line asks for.
func (load workload) serve(in io.Reader, out io.Writer) error {
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(load.setup); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		steps, err := strconv.Atoi(lines.Text())
		if err != nil {
			return fmt.Errorf("got %q, want a number of steps", lines.Text())
		}
		for range steps {
			c, err := measure(load.step)
			if err != nil {
				return err
			}
			if err := encoder.Encode(c); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// measure runs f and returns its cost.
func measure(f func() error) (cost, error) {
	start, before := time.Now(), cpuSeconds()
	if err := f(); err != nil {
		return cost{}, err
	}
	c := cost{Wall: time.Since(start).Seconds(), CPU: cpuSeconds() - before}
	var err error
	c.Peak, err = peakBytes()
	return c, err
}

// cpuSeconds is the user and system time of all threads of this process so far.
func cpuSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// peakBytes is the most memory that this process has held.
func peakBytes() (int64, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("the bench needs Linux: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb * 1024, err
		}
	}
	return 0, errors.New("the bench needs Linux: no VmHWM in /proc/self/status")
}
