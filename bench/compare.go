package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// setup is what a worker says of its program before the first step.
type setup struct {
	CompileWall float64 `json:"compile_wall"` // seconds
	CompileCPU  float64 `json:"compile_cpu"`  // seconds
	Parameters  int     `json:"parameters"`   // of the network
	StateBytes  int64   `json:"state_bytes"`  // what a step replaces
	AliasBytes  int64   `json:"alias_bytes"`  // of it, what is written in place
}

// cost is what a worker says of one step.
type cost struct {
	Wall float64 `json:"wall"` // seconds
	CPU  float64 `json:"cpu"`  // user and system seconds of the process
	Peak int64   `json:"peak"` // bytes that the process has held at most until now
}

// figures are those of one side in one case.
type figures struct {
	setup
	cost // the least wall and CPU seconds of a step, and the last peak
}

// compare runs the rounds of a case, alternating between the two commands.
func compare(ctx context.Context, c benchCase, oursCommand, peerCommand []string) (ours, peer figures, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers [2]*worker
	defer func() {
		cancel()
		for _, w := range workers {
			if w != nil {
				w.wait()
			}
		}
	}()
	sides := [2]*figures{&ours, &peer}
	for i, command := range [][]string{oursCommand, peerCommand} {
		fmt.Fprintf(os.Stderr, "%s: %s compiles\n", c.name, sideNames[i])
		if workers[i], err = startWorker(ctx, command); err != nil {
			return ours, peer, fmt.Errorf("%s: %w", sideNames[i], err)
		}
		if err := workers[i].read(&sides[i].setup); err != nil {
			return ours, peer, fmt.Errorf("%s: %w", sideNames[i], err)
		}
		if _, err := workers[i].run(1); err != nil { // not counted
			return ours, peer, fmt.Errorf("%s: first step: %w", sideNames[i], err)
		}
	}
	for round := range c.rounds {
		for i, w := range workers {
			costs, err := w.run(c.steps)
			if err != nil {
				return ours, peer, fmt.Errorf("%s: round %d: %w", sideNames[i], round+1, err)
			}
			sides[i].add(costs)
		}
		fmt.Fprintf(os.Stderr, "%s: round %d of %d, ours %.3g s, peer %.3g s\n", c.name, round+1, c.rounds, ours.Wall, peer.Wall)
	}
	return ours, peer, errors.Join(workers[0].close(), workers[1].close())
}

var sideNames = [2]string{"ours", "peer"}

// add takes in the costs of more steps.
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
