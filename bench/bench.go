package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"limner/xla/plugin"
)

// resultsFile is the file of the results, from the root of the repository.
const resultsFile = "bench/results.json"

// updateArg is the argument for writing the results of some cases.
const updateArg = "update"

// peer is another implementation of a case: a script, and the Python environment that it runs in.
type peer struct {
	name, script, python string
	arguments            []string // of the script, after the case
	peakGoal             float64  // the largest acceptable ratio of memory; 0: the case's
}

// The peers, with their files from the root of the repository.
var (
	flax  = peer{name: "flax", script: "bench/peer.py", python: "bench/venv/bin/python"}
	torch = peer{name: "torch", script: "bench/peer_torch.py", python: "bench/venv-torch/bin/python"}
	sdcpp = peer{name: "sd.cpp", script: "bench/peer_sdcpp.py", python: "bench/venv-sdcpp/bin/python"}

	loader = peer{
		name: "datasets, DataLoader with 2 workers", script: "bench/peer_pairs.py", python: torch.python,
		arguments: []string{"2"},
	}
	pillow = peer{
		name: "the same in one process", script: loader.script, python: torch.python, arguments: []string{"0"},
		peakGoal: 1,
	}
	script = peer{
		name: "Pillow, OpenCV and pyarrow in 2 processes", script: "bench/peer_build.py", python: torch.python,
	}
)

// bench measures the named cases, prints a table and writes the results if no case was left out, or with update: then
// those of the other cases stay.
func bench(ctx context.Context, names []string, update bool, out io.Writer) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	for _, c := range chosen {
		for _, p := range c.peers {
			if err := p.check("."); err != nil {
				return err
			}
		}
	}
	// Install the plugin here, so that its progress is seen and no case pays for it.
	if slices.ContainsFunc(chosen, func(c benchCase) bool { return c.start != nil }) {
		if _, err := plugin.Find(ctx, "cpu", plugin.InstallOptions{Progress: os.Stderr}); err != nil {
			return err
		}
	}
	for _, c := range chosen {
		if c.family != "" {
			if _, err := writeModel(c.family); err != nil {
				return err
			}
		}
		if c.pairs != nil {
			if err := c.pairs.write(); err != nil {
				return err
			}
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	machine, date := machineName(), time.Now().UTC().Format(time.RFC3339)
	var results []result
	for _, c := range chosen {
		sides := []side{{name: "ours", command: []string{self, workerArg, c.name}}}
		for _, p := range c.peers {
			command := append([]string{p.python, p.script, c.name}, p.arguments...)
			sides = append(sides, side{name: p.name, command: command})
		}
		if err := compare(ctx, c, sides); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		ours, goal := sides[0], c.goals
		for i, p := range sides[1:] {
			if ours.Parameters != p.Parameters {
				return fmt.Errorf("%s: our network has %d parameters, that of %s %d: make them the same",
					c.name, ours.Parameters, p.name, p.Parameters)
			}
			if c.goals.alias {
				fmt.Fprintf(out, "%s: state %d bytes, alias %d bytes (%s: %d, %d)\n",
					c.name, ours.StateBytes, ours.AliasBytes, p.name, p.StateBytes, p.AliasBytes)
			}
			if c.goals = goal; c.peers[i].peakGoal > 0 {
				c.goals.peak = c.peers[i].peakGoal
			}
			results = append(results, rows(c, ours.figures, p, machine, date)...)
		}
	}
	if err := printTable(out, results); err != nil {
		return err
	}
	fmt.Fprintf(out, "On %s. Each figure is the least over the rounds.\n", machine)
	if len(names) > 0 && !update {
		return nil
	}
	if len(names) > 0 {
		older, err := readResults(resultsFile)
		if err != nil {
			return err
		}
		results = merge(older, results)
	}
	if err := writeResults(resultsFile, results); err != nil {
		return err
	}
	if err := writePage(speedPage, results); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "wrote %s and %s\n", resultsFile, speedPage)
	return err
}

// check fails if something is missing for the peer to run below root.
func (p peer) check(root string) error {
	if _, err := os.Stat(filepath.Join(root, p.script)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no %s here: run the bench in the root of the repository", p.script)
	} else if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, p.python)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no %s: run make bench-peers first", p.python)
	} else if err != nil {
		return err
	}
	return nil
}
