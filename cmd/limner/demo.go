package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"limner/demo"
	"limner/train/watch"
)

type demoCmd struct {
	Options demo.Options `embed:""`
	runFlags
}

// Help shows one working example.
func (demoCmd) Help() string {
	return `Example:
  limner demo --output_dir limner-demo
It writes a dataset of circles, trains a ControlNet for the shipped base model on it, and samples what training never saw,
with the ControlNet and without: some minutes on two cores.`
}

func (c demoCmd) Run(ctx context.Context) error {
	b, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hooks, done := jobHooks()
	report, err := demo.Do(ctx, b, c.Options, hooks)
	if err := errors.Join(err, done()); err != nil {
		return err
	}
	fmt.Print(report.Text(c.Options.OutputDir))
	return nil
}

type baseCmd struct {
	Options demo.BaseOptions `embed:""`
	runFlags
}

// Help shows one working example.
func (baseCmd) Help() string {
	return `Example:
  limner base --output_dir base-run
It trains the tiny Stable Diffusion model that the demo uses, from nothing, on pictures of circles: about an hour on two
cores. Run it again after an interruption to continue.`
}

func (c baseCmd) Run(ctx context.Context) error {
	b, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	hooks, done := jobHooks()
	if err := errors.Join(demo.TrainBase(ctx, b, c.Options, hooks), done()); err != nil {
		return err
	}
	fmt.Println(filepath.Join(c.Options.OutputDir, "base"))
	return nil
}

// jobHooks show a job of several phases on the terminal.
func jobHooks() (hooks demo.Hooks, done func() error) {
	var p *progress
	done = func() error {
		if p == nil {
			return nil
		}
		return p.Close()
	}
	hooks = demo.Hooks{
		Log: besideBar{func() *progress { return p }},
		Phase: func(name string) {
			_ = done() // a bar that is not finished, of a phase that is
			fmt.Fprintf(os.Stderr, "\n%s\n", name)
			p = newProgress(os.Stderr, name)
		},
		Step:  func(s watch.Progress) { p.Step(s.Step, s.Steps, stepFields(s)) },
		Count: func(n, total int) { p.Step(n, total, "") },
	}
	return hooks, done
}
