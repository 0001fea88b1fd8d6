package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// warmArg is the argument for measuring starts with and without compiled programs.
const warmArg = "warm"

// warm starts our side of each case twice, with one folder of compiled programs: the first process compiles, the second
// loads. It prints the seconds from the start of the process to the end of its first step, random weights and all, and
// the wall and CPU seconds of building and compiling or loading alone.
func warm(ctx context.Context, names []string, out io.Writer) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "case\tcold start\twarm\tratio\tcompiled\tloaded\tratio\tcompiled, CPU\tloaded, CPU\tratio\t")
	for _, c := range chosen {
		cold, loaded, err := starts(ctx, c.name)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Fprintf(table, "%s", c.name)
		for _, pair := range [][2]float64{
			{cold.start, loaded.start}, {cold.CompileWall, loaded.CompileWall}, {cold.CompileCPU, loaded.CompileCPU},
		} {
			fmt.Fprintf(table, "\t%.2f s\t%.2f s\t%.2f", pair[0], pair[1], pair[1]/pair[0])
		}
		fmt.Fprintln(table, "\t")
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "On %s.\n", machineName())
	return err
}

// starts measures two processes that share a folder of programs.
func starts(ctx context.Context, name string) (cold, loaded figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return cold, loaded, err
	}
	folder, err := os.MkdirTemp("", "bench-executables-")
	if err != nil {
		return cold, loaded, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	for _, f := range []*figures{&cold, &loaded} {
		begin := time.Now()
		w, err := startWorker(ctx, []string{self, workerArg, name, folder})
		if err != nil {
			return cold, loaded, err
		}
		if err := w.read(&f.setup); err != nil {
			return cold, loaded, err
		}
		if _, err := w.run(1); err != nil {
			return cold, loaded, err
		}
		f.start = time.Since(begin).Seconds()
		if err := w.close(); err != nil {
			return cold, loaded, err
		}
	}
	return cold, loaded, nil
}
