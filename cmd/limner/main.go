// Command limner trains ControlNets and other parts of Stable Diffusion models, and samples with them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"k8s.io/klog/v2"

	"limner/controlnet/condition"
	"limner/internal/settings"
	"limner/sample/schedule"
)

// cli is the whole command line; each command stands in its own file.
type cli struct {
	Demo    demoCmd    `cmd:"" help:"Make a dataset, train a ControlNet on it and sample with it, in minutes."`
	Data    dataCmd    `cmd:"" help:"Make and check datasets."`
	Train   trainCmd   `cmd:"" help:"Train a ControlNet, a UNet, a LoRA, new tokens or a VAE."`
	Sample  sampleCmd  `cmd:"" help:"Sample images from prompts."`
	Plan    planCmd    `cmd:"" help:"Compile training or sampling for a TPU that is not here: does it fit, how long does it take, what would help."`
	Base    baseCmd    `cmd:"" help:"Train the demo's base model from nothing."`
	Show    showCmd    `cmd:"" help:"Say what a file of weights is, and what is in it."`
	Convert convertCmd `cmd:"" help:"Convert models and LoRAs between formats."`
	Doctor  doctorCmd  `cmd:"" help:"Check the plugin, the devices, memory and disks, and say what to do about whatever is wrong."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

const description = `limner trains ControlNets for Stable Diffusion models, and samples with them.

New here? "limner demo" shows all of it in some minutes. "limner help COMMAND" lists the flags of a command, which may
be written with dashes or underscores alike.`

func main() {
	// The engine's log tells users nothing that an error does not.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	os.Exit(run(os.Args[1:]))
}

// run does what the arguments ask for and returns the exit code. The first SIGINT or SIGTERM cancels the command, the
// second ends the process.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	parser, err := newParser()
	if err != nil {
		return report(err)
	}
	args, notes, err := translated(args, time.Now())
	if err != nil {
		return report(err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return report(parseError(args, err))
	}
	for _, note := range notes {
		fmt.Fprintln(os.Stderr, note)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run()
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	return report(err)
}

func newParser() (*kong.Kong, error) {
	var c cli
	k, err := kong.New(&c, append(numberMappers(), kong.Name("limner"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}), kong.ExplicitGroups(flagGroups),
		kong.Vars{"schedulers": schedule.ShortNames(), "conditions": condition.Names()},
		kong.NamedMapper("axes", kong.MapperFunc(decodeAxes)))...)
	if err == nil {
		// Some settings have defaults and are no flags, which kong leaves alone.
		for _, command := range []any{&c.Train, &c.Plan.trainCmd, &c.Base, &c.Data} {
			err = errors.Join(err, settings.SetDefaults(command))
		}
		relaxPlan(k)
		withoutFlags(k, "data build", "random-flip", "force-flip", "shuffle-tags", "keep-tokens")
		orderFlags(k.Model.Node)
	}
	return k, err
}

// spelledOut writes out the short ways to ask for help and the version: no arguments at all, help [command], --version.
func spelledOut(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case len(args) == 1 && args[0] == "--version":
		return []string{"version"}
	}
	return args
}

// withDashes writes the names of flags with dashes instead of underscores. Values stay as they are.
func withDashes(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		if arg == "--" {
			copy(out[i:], args[i:])
			break
		}
		if strings.HasPrefix(arg, "--") {
			name, value, found := strings.Cut(arg, "=")
			arg = strings.ReplaceAll(name, "_", "-")
			if found {
				arg += "=" + value
			}
		}
		out[i] = arg
	}
	return out
}

// parseError adds all other wrong flags, and where to read on.
func parseError(args []string, err error) error {
	help := "limner"
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		if node := parse.Context.Selected(); node != nil {
			help = node.FullPath()
		}
	}
	return usageError{fmt.Errorf("%w (see %s --help)", wrongFlags(args, err), help)}
}
