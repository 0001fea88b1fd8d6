package main

import (
	"context"
	"fmt"
	"os"

	"limner/data/circles"
)

// dataCmd holds what makes and checks datasets.
type dataCmd struct {
	Build dataBuildCmd `cmd:"" help:"Make a dataset out of pictures in any layout: filtered, resized, with captions and conditions."`
	Synth struct {
		Circles circlesCmd `cmd:"" help:"Write a synthetic dataset: filled circles in named colours, with their outlines as conditions."`
	} `cmd:"" help:"Make a synthetic dataset."`
	Check dataCheckCmd `cmd:"" help:"Say what is wrong with a dataset, what a run on it takes, and what to do."`
	Peek  dataPeekCmd  `cmd:"" help:"Show the examples that training gets: cropped, turned around, in its order."`
}

type circlesCmd struct {
	Set circles.Set `embed:""`
	Out string      `required:"" aliases:"output-dir" placeholder:"DIR" help:"Folder to write, which must be new or empty. --output_dir is the same."`
}

// Help shows one working example.
func (circlesCmd) Help() string {
	return `Example:

  limner data synth circles --count 1000 --size 64 --seed 1 --out circles

The folder holds parquet files with the columns image, conditioning_image and text, as the datasets library writes them. The
same flags give the same bytes.`
}

func (c circlesCmd) Run(ctx context.Context) error {
	bar := newProgress(os.Stderr, "writing")
	err := circles.Write(ctx, c.Set, c.Out, func(done, total int) { bar.Step(done, total, "") })
	if closeErr := bar.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	_, err = fmt.Println(c.Out)
	return err
}
