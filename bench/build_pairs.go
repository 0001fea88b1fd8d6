package main

import (
	"context"
	"os"
	"path/filepath"

	"limner/data"
	"limner/data/build"
	"limner/internal/settings"
)

// startBuild makes a dataset of a set's images, resized to 512×512, with their edges; a step makes all of it.
func startBuild(set pairSet) func(context.Context) (workload, error) {
	return func(ctx context.Context) (workload, error) {
		job := build.Job{
			In: []string{set.folder()}, Out: filepath.Join(modelsDir, "built"), Reading: data.DefaultOptions(),
			Settings: settings.Default[build.Settings](), Program: "bench",
		}
		job.Condition, job.Duplicates = "canny", "keep" // the pictures of a set repeat
		job.Reading.NeedConditioning = false
		return workload{step: func() error {
			if err := os.RemoveAll(job.Out); err != nil {
				return err
			}
			_, err := job.Run(ctx)
			return err
		}}, nil
	}
}
