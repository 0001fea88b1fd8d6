package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"limner/internal/printable"
	"limner/models/diffusers"
	"limner/models/hub"
)

// modelFlags choose a model and say what its files do not.
type modelFlags struct {
	Model          string `json:"pretrained_model_name_or_path" name:"pretrained-model-name-or-path" aliases:"model" required:"" placeholder:"MODEL" help:"Stable Diffusion 1.x, 2.x or XL model: a folder in diffusers' layout, a single file, or org/name[@revision] on the Hub. --model is the same."`
	Revision       string `json:"revision,omitempty" placeholder:"NAME" help:"Branch, tag or commit of a model on the Hub; --model org/name@revision is the same."`
	Variant        string `json:"variant,omitempty" placeholder:"NAME" help:"Of the weights, such as fp16, where a folder or the Hub has several."`
	OriginalConfig string `json:"original_config,omitempty" placeholder:"DIR" help:"Folder in diffusers' layout whose configs and tokenizers go with a single file; without it, they are its family's."`
	PredictionType string `json:"prediction_type,omitempty" enum:"epsilon,v_prediction,sample," default:"" placeholder:"TYPE" help:"epsilon, v_prediction or sample, in place of what the model's schedule says; a single file of SD 2.x is taken for v_prediction."`
}

// openModel finds the model and reads everything but its weights.
func (f *modelFlags) openModel(ctx context.Context) (*diffusers.Pipeline, error) {
	path, err := f.find(ctx)
	if err != nil {
		return nil, err
	}
	p, err := diffusers.OpenWith(path, f.opening())
	if err != nil {
		return nil, configError{err}
	}
	return p, nil
}

// find is where the model's files are.
func (f *modelFlags) find(ctx context.Context) (string, error) {
	if f.Revision == "" {
		return locate(ctx, f.Model, f.Variant)
	}
	if _, err := os.Stat(f.Model); err == nil {
		return "", configError{fmt.Errorf("revision: %s is here and has none: leave --revision out, or name a model on the Hub", f.Model)}
	}
	return locate(ctx, f.Model+"@"+f.Revision, f.Variant)
}

func (f *modelFlags) opening() diffusers.Options {
	return diffusers.Options{Variant: f.Variant, Config: f.OriginalConfig, PredictionType: f.PredictionType}
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
		return "", configError{err}
	}
	options, err := hub.OptionsFrom(os.Getenv)
	if err != nil {
		return "", configError{err}
	}
	const megabyte = 1 << 20
	bar := newProgress(os.Stderr, "MB of "+ref.Repo)
	options.Progress = func(done, total int64, file string) { bar.Step(int(done/megabyte), int(total/megabyte), file) }
	options.Log = func(line string) { fmt.Fprintln(printable.Writer{To: os.Stderr}, line) }
	client, err := hub.New(options)
	if err != nil {
		return "", configError{err}
	}
	snapshot, err := client.Fetch(ctx, ref, hub.Selection{Variant: variant})
	if err := errors.Join(err, bar.Close()); err != nil {
		return "", configError{fmt.Errorf("no folder %s here, so it was looked for on the Hub: %w", name, err)}
	}
	return snapshot.Path, nil
}
