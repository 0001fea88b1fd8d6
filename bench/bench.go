package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"limner/xla"
)

// Where things lie, from the root of the repository.
const (
	peerScript  = "bench/peer.py"
	peerPython  = "bench/venv/bin/python"
	resultsFile = "bench/results.json"
)

// bench measures the named cases, prints a table and, if no case was left out, writes the results.
func bench(ctx context.Context, names []string, out io.Writer) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if err := checkPeer("."); err != nil {
		return err
	}
	// Install the plugin here, so that its progress is seen and no case pays for it.
	if _, err := xla.Plugin(ctx, "cpu", xla.InstallOptions{Progress: os.Stderr}); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	machine, date := machineName(), time.Now().UTC().Format(time.RFC3339)
	var results []result
	for _, c := range chosen {
		ours, peer, err := compare(ctx, c, []string{self, workerArg, c.name}, []string{peerPython, peerScript, c.name})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if ours.Parameters != peer.Parameters {
			return fmt.Errorf("%s: our network has %d parameters, the peer's %d: make them the same", c.name, ours.Parameters, peer.Parameters)
		}
		if c.goals.alias {
			fmt.Fprintf(out, "%s: state %d bytes, alias %d bytes (peer: %d, %d)\n", c.name, ours.StateBytes, ours.AliasBytes, peer.StateBytes, peer.AliasBytes)
		}
		results = append(results, rows(c, ours, peer, machine, date)...)
	}
	if err := printTable(out, results); err != nil {
		return err
	}
	fmt.Fprintf(out, "On %s. Each figure is the least over the rounds, which alternate between ours and the peer.\n", machine)
	if len(names) > 0 {
		return nil
	}
	if err := writeResults(resultsFile, results); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "wrote %s\n", resultsFile)
	return err
}

// checkPeer says what is missing for the peer to run below root.
func checkPeer(root string) error {
	if _, err := os.Stat(filepath.Join(root, peerScript)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no %s here: run the bench in the root of the repository", peerScript)
	} else if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, peerPython)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no %s: run make bench-peers first", peerPython)
	} else if err != nil {
		return err
	}
	return nil
}
