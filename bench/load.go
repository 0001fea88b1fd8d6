package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
)

// Loading is measured apart from the cases, since it has no steps: `bench load sd15|sd21|sdxl` writes a model of full
// size with random weights in f16 once, into bench/out, and then loads all of its networks onto the device in a process
// of their own for each dtype. The goal is a peak of at most 1.3 times the weights in that dtype.

const (
	loadArg       = "load"
	loadWorkerArg = "load-worker"
	modelsDir     = "bench/out"
	loadGoal      = 1.3
)

// loaded is what a load worker reports.
type loaded struct {
	Wall  float64 `json:"wall"`  // seconds
	CPU   float64 `json:"cpu"`   // seconds
	Bytes int64   `json:"bytes"` // of the weights on the device
	Base  int64   `json:"base"`  // bytes that the process had held at most before it loaded: the plugin and the client
	Peak  int64   `json:"peak"`  // and after
}

// load measures the loading of a family's model.
func load(ctx context.Context, family string, out io.Writer) error {
	dir, err := writeModel(family)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "model\tas\tweights\twall\tCPU\tGB/s\tpeak\tof weights\tgoal\t")
	for _, dtype := range []string{"F32", "BF16", "F16"} {
		command := exec.CommandContext(ctx, self, loadWorkerArg, dir, dtype)
		command.Stderr = os.Stderr
		raw, err := command.Output()
		if err != nil {
			return fmt.Errorf("load %s as %s: %w", family, dtype, err)
		}
		var l loaded
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		const gb = 1e9
		ratio := float64(l.Peak) / float64(l.Bytes)
		verdict := "met"
		if ratio > loadGoal {
			verdict = "missed"
		}
		fmt.Fprintf(table, "%s\t%s\t%.2f GB\t%.2f s\t%.2f s\t%.2f\t%.2f GB\t%.2f\t≤ %g\t%s\n",
			family, dtype, float64(l.Bytes)/gb, l.Wall, l.CPU, float64(l.Bytes)/gb/l.Wall, float64(l.Peak)/gb,
			ratio, loadGoal, verdict)
	}
	return table.Flush()
}

// loadWorker loads every network of a model and prints the cost.
func loadWorker(ctx context.Context, dir, dtype string, out io.Writer) (err error) {
	on := map[string]dtypes.DType{"F32": dtypes.Float32, "BF16": dtypes.BFloat16, "F16": dtypes.Float16}[dtype]
	b, err := xla.Open(ctx, xla.Options{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var l loaded
	kept := program.Arrays{} // keeps the garbage collector from freeing them
	if l.Base, err = peakBytes(); err != nil {
		return err
	}
	c, err := measure(func() error {
		p, err := diffusers.Open(dir)
		if err != nil {
			return err
		}
		w, err := p.Weights(p.Components()...)
		if err != nil {
			return err
		}
		for _, component := range p.Components() {
			tree := p.Tree(component).Under(component)
			values := program.Parameters(tree, on)
			for _, v := range values {
				l.Bytes += int64(v.Shape.Memory())
			}
			err := kept.Load(b, w, tree, values)
			if err != nil {
				return errors.Join(err, w.Close())
			}
		}
		return w.Close()
	})
	if err != nil {
		return err
	}
	l.Wall, l.CPU, l.Peak = c.Wall, c.CPU, c.Peak
	if err := kept.Free(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(l)
}

// writeModel writes a model of full size in f16, with random weights, unless it is there already.
func writeModel(family string) (string, error) {
	p, err := diffusers.Family(family)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(modelsDir, family)
	if _, err := diffusers.Open(dir); err == nil {
		return dir, nil
	}
	fmt.Fprintf(os.Stderr, "writing %s with random weights\n", dir)
	start := time.Now()
	err = p.SaveEach(dir, "F16", func(component string) (nn.Values, error) {
		return nn.InitValues(p.Tree(component), 0).Under(component), nil
	})
	if err == nil {
		fmt.Fprintf(os.Stderr, "written in %.0f s\n", time.Since(start).Seconds())
		debug.FreeOSMemory() // so that the workers have it
	}
	return dir, err
}
