package data_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"limner/data"
	"limner/data/circles"
)

// Write a synthetic set and read its first batch.
func Example() {
	dir, err := os.MkdirTemp("", "circles")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	drawing := circles.Default()
	drawing.Count, drawing.Seed = 64, 1
	if err := circles.Write(context.Background(), drawing, filepath.Join(dir, "set"), nil); err != nil {
		log.Fatal(err)
	}

	options := data.DefaultOptions()
	options.Resolution, options.BatchSize = drawing.Size, 16
	set, err := data.Open([]string{filepath.Join(dir, "set")}, options)
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()
	batches, err := set.Batches(context.Background(), 0)
	if err != nil {
		log.Fatal(err)
	}
	defer batches.Close()
	batch, err := batches.Next()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Len(), "rows,", set.StepsPerEpoch(), "steps an epoch")
	fmt.Println(len(batch.Captions), "captions,", len(batch.Pixels), "pixel values")
	fmt.Println(drawing.Example(0).Caption())
	// Output:
	// 64 rows, 4 steps an epoch
	// 16 captions, 196608 pixel values
	// black circle with maroon background
}
