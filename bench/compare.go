package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// setup is what a worker reports of its program before the first step.
type setup struct {
	CompileWall float64 `json:"compile_wall"` // seconds
	CompileCPU  float64 `json:"compile_cpu"`  // seconds
	Parameters  int     `json:"parameters"`   // of the network
	StateBytes  int64   `json:"state_bytes"`  // what a step replaces
	AliasBytes  int64   `json:"alias_bytes"`  // the part of it that is written in place
}

// cost is what a worker reports of one step.
type cost struct {
	Wall float64 `json:"wall"` // seconds
	CPU  float64 `json:"cpu"`  // user and system seconds of the process
	Peak int64   `json:"peak"` // most bytes that the process has held until now
}

// side is one process of a case.
type side struct {
	name    string
	command []string
	figures
}

// figures are those of one side in one case.
type figures struct {
	setup
	cost          // the least wall and CPU seconds of a step, and the last peak
	start float64 // seconds from the start of the process, alone on the machine, to the end of its first step
}

// compare runs the rounds of a case and fills in the figures of its sides. The rounds alternate between the sides, so
// that other load on the machine affects all of them alike; a case whose sides do not fit into memory together runs
// them one after the other.
func compare(ctx context.Context, c benchCase, sides []side) error {
	if !c.apart {
		return alternate(ctx, c, sides)
	}
	for i := range sides {
		if err := alternate(ctx, c, sides[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func alternate(ctx context.Context, c benchCase, sides []side) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := make([]*worker, len(sides))
	defer func() {
		cancel()
		for _, w := range workers {
			if w != nil {
				w.wait()
			}
		}
	}()
	for i := range sides {
		s := &sides[i]
		fmt.Fprintf(os.Stderr, "%s: %s compiles\n", c.name, s.name)
		begin := time.Now()
		if workers[i], err = startWorker(ctx, s.command); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := workers[i].read(&s.setup); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if _, err := workers[i].run(1); err != nil { // not counted
			return fmt.Errorf("%s: first step: %w", s.name, err)
		}
		s.start = time.Since(begin).Seconds()
	}
	for round := range c.rounds {
		for i, w := range workers {
			costs, err := w.run(c.steps)
			if err != nil {
				return fmt.Errorf("%s: round %d: %w", sides[i].name, round+1, err)
			}
			sides[i].add(costs)
			fmt.Fprintf(os.Stderr, "%s: round %d of %d, %s %.3g s\n",
				c.name, round+1, c.rounds, sides[i].name, sides[i].Wall)
		}
	}
	var errs []error
	for i, w := range workers {
		if err := w.close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", sides[i].name, err))
		}
	}
	return errors.Join(errs...)
}

// add updates the figures with the costs of more steps.
func (f *figures) add(costs []cost) {
	for _, c := range costs {
		if f.Wall == 0 || c.Wall < f.Wall {
			f.Wall = c.Wall
		}
		if f.CPU == 0 || c.CPU < f.CPU {
			f.CPU = c.CPU
		}
		f.Peak = max(f.Peak, c.Peak)
	}
}
