package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"limner/data"
	"limner/data/build"
)

type dataBuildCmd struct {
	In         string         `arg:"" placeholder:"IN" help:"Dataset to read, in any layout that training reads: a folder of images, parquet files."`
	Out        string         `arg:"" placeholder:"OUT" help:"Folder to write, which must be new or empty."`
	Reading    data.Reading   `embed:"" group:"data"`
	MaskColumn string         `group:"data" placeholder:"NAME" help:"Column of masks."`
	Settings   build.Settings `embed:""`
}

// Help shows one working example.
func (dataBuildCmd) Help() string {
	return `Example:

  limner data build photos dataset --resolution 512 --condition canny --validation_count 16

OUT holds parquet files in the layout of the datasets library, data/train-00000-of-0000N.parquet and validation-…, and in build/ a
record of how it was made, where each row came from, and which were left out and why. A build that was stopped goes on when the
same command is given again. The same input and flags give the same bytes.`
}

func (c dataBuildCmd) Run(ctx context.Context) error {
	if err := c.Settings.Validate(); err != nil {
		return usageError{err}
	}
	reading := data.DefaultOptions()
	reading.Reading, reading.MaskColumn = c.Reading, c.MaskColumn
	err := runBuild(ctx, build.Job{In: []string{c.In}, Out: c.Out, Reading: reading, Settings: c.Settings})
	if err != nil {
		return err
	}
	_, err = fmt.Println(c.Out)
	return err
}

// runBuild makes a dataset, shows how far it is, and says what was made.
func runBuild(ctx context.Context, job build.Job) error {
	bar, begun, first := newProgress(os.Stderr, "building"), time.Now(), -1
	job.Program, job.Log = "limner "+version, said
	job.Progress = func(p build.Progress) {
		if first < 0 {
			first = p.Done
		}
		rate := float64(p.Done-first) / max(time.Since(begun).Seconds(), 1e-3)
		bar.Step(p.Done, p.Total, fmt.Sprintf("rows/s %.1f left_out %d", rate, p.LeftOut))
	}
	summary, err := job.Run(ctx)
	if closeErr := bar.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(said, summary)
	return err
}

// withoutFlags removes flags of a command that a struct of other commands has brought along.
func withoutFlags(k *kong.Kong, path string, names ...string) {
	for _, command := range k.Model.Leaves(false) {
		if command.Path() == path {
			command.Flags = slices.DeleteFunc(command.Flags, func(f *kong.Flag) bool {
				return slices.Contains(names, f.Name)
			})
		}
	}
}
