package main

import (
	"context"
	"fmt"
	"os"

	"limner/data/check"
	"limner/internal/refusal"
)

type dataPeekCmd struct {
	Dir  []string          `arg:"" name:"dir" help:"Dataset: a folder or file, as --train_data_dir takes it."`
	Peek check.PeekOptions `embed:""`
	Out  string            `required:"" placeholder:"FILE" help:"PNG file to write; captions go beside it, into a .txt file."`
}

// Help shows one working example.
func (dataPeekCmd) Help() string {
	return `Example:

  limner data peek circles --resolution 64 --random_flip --out peek.png

The examples are those of a run with the same --seed, in its order: image, conditioning image and mask side by side, as
they are cropped and turned around, to the byte.`
}

func (c dataPeekCmd) Run(ctx context.Context) error {
	if err := c.Peek.Validate(); err != nil {
		return usageError{err}
	}
	if err := check.Peek(ctx, c.Dir, c.Peek, c.Out, os.Stderr); err != nil {
		return refusal.Error{Err: err}
	}
	_, err := fmt.Println(c.Out)
	return err
}
