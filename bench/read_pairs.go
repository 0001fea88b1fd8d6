package main

import (
	"context"

	"limner/data"
)

// startReading reads a set's batches, whose pairs are fitted to side×side, with a worker a core; a step is stepPairs of
// them.
func startReading(set pairSet, side int) func(context.Context) (workload, error) {
	return func(ctx context.Context) (workload, error) {
		o := data.DefaultOptions()
		o.Resolution, o.BatchSize = side, pairBatch
		d, err := data.Open([]string{set.folder()}, o)
		if err != nil {
			return workload{}, err
		}
		next := 0
		step := func() error {
			batches, err := d.Batches(ctx, next)
			if err != nil {
				return err
			}
			defer batches.Close() // nothing is decoded between the steps; what was decoded ahead is lost
			for range stepPairs / pairBatch {
				if _, err := batches.Next(); err != nil {
					return err
				}
				next++
			}
			return nil
		}
		return workload{step: step}, nil
	}
}
