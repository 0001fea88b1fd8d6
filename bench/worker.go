package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// worker is a process that measures one side of a case. It prints its setup, then answers each line with a
// number of steps by a line for each step.
type worker struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  bytes.Buffer
	waited  bool
	err     error
}

func startWorker(ctx context.Context, command []string) (*worker, error) {
	w := &worker{command: exec.CommandContext(ctx, command[0], command[1:]...)}
	w.command.Env = append(w.command.Environ(), "JAX_PLATFORMS=cpu")
	w.command.Stderr = &w.errors
	var err error
	if w.in, err = w.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReader(out)
	return w, w.command.Start()
}

// read decodes one line.
func (w *worker) read(v any) error {
	line, err := w.out.ReadBytes('\n')
	if err != nil {
		if ended := w.wait(); ended != nil {
			err = ended
		}
		return fmt.Errorf("the worker ended: %w%s", err, w.lastWords())
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("the worker printed %q: %w", line, err)
	}
	return nil
}

// run has the worker make some steps.
func (w *worker) run(steps int) ([]cost, error) {
	if _, err := fmt.Fprintln(w.in, steps); err != nil {
		return nil, fmt.Errorf("the worker does not listen: %w%s", err, w.lastWords())
	}
	costs := make([]cost, steps)
	for i := range costs {
		if err := w.read(&costs[i]); err != nil {
			return nil, err
		}
	}
	return costs, nil
}

// close lets the worker end.
func (w *worker) close() error {
	w.in.Close() // the worker reads the end of its input; what matters is how it exits
	if err := w.wait(); err != nil {
		return fmt.Errorf("the worker ended: %w%s", err, w.lastWords())
	}
	return nil
}

func (w *worker) wait() error {
	if !w.waited {
		w.waited, w.err = true, w.command.Wait()
	}
	return w.err
}

// lastWords is the end of the worker's standard error.
func (w *worker) lastWords() string {
	if !w.waited {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(w.errors.String()), "\n")
	return "\n" + strings.Join(lines[max(0, len(lines)-10):], "\n")
}
