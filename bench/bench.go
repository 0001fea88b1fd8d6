package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"limner/xla/plugin"
)

// resultsFile is the file of the results, from the root of the repository.
const resultsFile = "bench/results.json"

// peer is another implementation of a case: a script, and the Python environment that it runs in.
type peer struct {
	name, script, python string
}

// The peers, with their files from the root of the repository.
var (
	flax  = peer{"flax", "bench/peer.py", "bench/venv/bin/python"}
	torch = peer{"torch", "bench/peer_torch.py", "bench/venv-torch/bin/python"}
	sdcpp = peer{"sd.cpp", "bench/peer_sdcpp.py", "bench/venv-sdcpp/bin/python"}
)

// bench measures the named cases, prints a table and, if no case was left out, writes the results.
func bench(ctx context.Context, names []string, out io.Writer) error {
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
	if _, err := plugin.Find(ctx, "cpu", plugin.InstallOptions{Progress: os.Stderr}); err != nil {
		return err
	}
	for _, c := range chosen {
		if c.family != "" {
			if _, err := writeModel(c.family); err != nil {
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
			sides = append(sides, side{name: p.name, command: []string{p.python, p.script, c.name}})
		}
		if err := compare(ctx, c, sides); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		ours := sides[0]
		for _, p := range sides[1:] {
			if ours.Parameters != p.Parameters {
				return fmt.Errorf("%s: our network has %d parameters, that of %s %d: make them the same",
					c.name, ours.Parameters, p.name, p.Parameters)
			}
			if c.goals.alias {
				fmt.Fprintf(out, "%s: state %d bytes, alias %d bytes (%s: %d, %d)\n",
					c.name, ours.StateBytes, ours.AliasBytes, p.name, p.StateBytes, p.AliasBytes)
			}
			results = append(results, rows(c, ours.figures, p, machine, date)...)
		}
	}
	if err := printTable(out, results); err != nil {
		return err
	}
	fmt.Fprintf(out, "On %s. Each figure is the least over the rounds.\n", machine)
	if len(names) > 0 {
		return nil
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
