package main

import (
	"context"
	"fmt"
	"os"

	"limner/data/circles"
)

// dataCmd holds what makes datasets.
type dataCmd struct {
	Synth struct {
		Circles circlesCmd `cmd:"" help:"Write a synthetic dataset: filled circles in named colours, with their outlines as conditions."`
	} `cmd:"" help:"Make a synthetic dataset."`
}

type circlesCmd struct {
	Count   int    `default:"${circles_count}" help:"Examples to write."`
	Size    int    `default:"${circles_size}" help:"Side of the pictures, in pixels."`
	Seed    uint64 `default:"0" help:"Another seed gives other examples."`
	Palette string `default:"${circles_palette}" help:"basic: 17 colours that are easy to tell apart; css: all CSS colour names."`
	Out     string `required:"" aliases:"output-dir" placeholder:"DIR" help:"Folder to write, which must be new or empty. --output_dir is the same."`
}

// dataDefaults are the values of the flags' defaults, which package data holds.
func dataDefaults() map[string]string {
	c := circles.Default()
	return map[string]string{
		"circles_count": fmt.Sprint(c.Count), "circles_size": fmt.Sprint(c.Size), "circles_palette": c.Palette,
	}
}

// Help shows one working example.
func (circlesCmd) Help() string {
	return `Example:

  limner data synth circles --count 1000 --size 64 --seed 1 --out circles

The folder holds parquet files with the columns image, conditioning_image and text, as the datasets library writes them. The
same flags give the same bytes.`
}

func (c circlesCmd) Run(ctx context.Context) error {
	set := circles.Default()
	set.Count, set.Size, set.Seed, set.Palette = c.Count, c.Size, c.Seed, c.Palette
	if err := set.Validate(); err != nil {
		return usageError{err}
	}
	bar := newProgress(os.Stderr, "writing")
	err := circles.Write(ctx, set, c.Out, func(done, total int) { bar.Step(done, total, "") })
	if closeErr := bar.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	_, err = fmt.Println(c.Out)
	return err
}
