package main

import (
	"context"
	"fmt"
	"strings"

	"limner/xla"
)

// benchCase is one thing that is measured on both sides.
type benchCase struct {
	name   string
	rounds int
	steps  int // of one side in a round
	goals  goals
	start  func(context.Context, *xla.Backend) (workload, error) // ours; the peer's stands in peer.py under the same name
}

// goals are the largest ratios that will do.
type goals struct {
	wall, cpu, compile, peak float64
	alias                    bool // the state must be written in place, all of it
}

// workload is a compiled program with all that a step needs.
type workload struct {
	setup
	step func() error
}

func cases() []benchCase {
	return []benchCase{
		{name: "train_step_small_unet", rounds: 6, steps: 2, start: startTrainStep, goals: goals{wall: 1, cpu: 1, compile: 2, peak: 1, alias: true}},
		{name: "sd15_unet_forward", rounds: 5, steps: 2, start: startForward, goals: goals{wall: 1, cpu: 1, compile: 2, peak: 1}},
	}
}

// choose returns the cases of those names, or all without a name.
func choose(names []string) ([]benchCase, error) {
	all := cases()
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	var chosen []benchCase
	for i, c := range all {
		known[i] = c.name
		for _, name := range names {
			if name == c.name {
				chosen = append(chosen, c)
			}
		}
	}
	if len(chosen) != len(names) {
		return nil, fmt.Errorf("got cases %s, want some of %s", strings.Join(names, ", "), strings.Join(known, ", "))
	}
	return chosen, nil
}
