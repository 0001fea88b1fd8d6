package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"limner/data"
	"limner/internal/printable"
	"limner/internal/refusal"
	"limner/models/diffusers"
	"limner/models/hub"
)

// said is where lines go that may quote files.
var said = printable.Writer{To: os.Stderr}

// openModel finds the model and reads everything but its weights.
func openModel(ctx context.Context, o diffusers.ModelOptions) (*diffusers.Pipeline, error) {
	path, err := findModel(ctx, o)
	if err != nil {
		return nil, err
	}
	opening := o.Opening()
	opening.Log = said
	p, err := diffusers.OpenWith(path, opening)
	if err != nil {
		return nil, refusal.Error{Err: err}
	}
	return p, nil
}

// findModel is where the model's files are.
func findModel(ctx context.Context, o diffusers.ModelOptions) (string, error) {
	if o.Revision == "" {
		return locate(ctx, o.Model, o.Variant)
	}
	if _, err := os.Stat(o.Model); err == nil {
		return "",
			refusal.Errorf("revision: %s is here and has none: "+
				"leave --revision out, or name a model on the Hub", o.Model)
	}
	return locate(ctx, o.Model+"@"+o.Revision, o.Variant)
}

// locate is where the files of a model are: at name, if there is something, else where the Hub's were brought to.
func locate(ctx context.Context, name, variant string) (string, error) {
	_, err := os.Stat(name)
	if err == nil || !hub.IsRef(name) {
		return name, nil // whoever opens it says what is wrong
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("open model: %w", err)
	}
	ref, err := hub.ParseRef(name)
	if err != nil {
		return "", refusal.Error{Err: err}
	}
	return fetch(ctx, ref, hub.Selection{Variant: variant})
}

// findDataset is where the rows of a dataset are: at name, if there is something, else where the Hub's were brought to.
func findDataset(ctx context.Context, name string, r data.Reading) (string, error) {
	_, err := os.Stat(name)
	if err == nil {
		return name, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("open dataset: %w", err)
	}
	ref, err := hub.ParseDatasetRef(name)
	if err != nil {
		return "", refusal.Errorf("dataset_name: no folder %s here, and on the Hub: %w", name, err)
	}
	return fetch(ctx, ref, hub.Selection{Config: r.DatasetConfigName, AllSplits: r.Split != ""})
}

// fetch brings the files of a repo on the Hub here.
func fetch(ctx context.Context, ref hub.Ref, s hub.Selection) (string, error) {
	options, err := hub.OptionsFrom(os.Getenv)
	if err != nil {
		return "", refusal.Error{Err: err}
	}
	const megabyte = 1 << 20
	bar := newProgress(os.Stderr, "MB of "+ref.Repo)
	options.Progress = func(done, total int64, file string) { bar.Step(int(done/megabyte), int(total/megabyte), file) }
	options.Log = func(line string) { fmt.Fprintln(said, line) }
	client, err := hub.New(options)
	if err != nil {
		return "", refusal.Error{Err: err}
	}
	snapshot, err := client.Fetch(ctx, ref, s)
	if err := errors.Join(err, bar.Close()); err != nil {
		return "", refusal.Errorf("no folder %s here, so it was looked for on the Hub: %w", ref, err)
	}
	return snapshot.Path, nil
}
