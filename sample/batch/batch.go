// Package batch samples lists of images: of prompts, prompt files or sheets of settings, into a folder with records
// that say how each image was sampled, and which a later call goes on with.
package batch

import (
	"context"
	"errors"
	"fmt"
)

// New lists the images that the options ask for and looks at the output folder, and leaves what is there as it is.
func New(o Options, h Host) (*List, error) {
	jobs, err := o.list()
	if err != nil {
		return nil, UsageError{err}
	}
	out, err := openOutput(o.OutputDir, o.Resume)
	if err != nil {
		return nil, err
	}
	return &List{options: &o, host: h, out: out, jobs: jobs}, nil
}

// Run samples the images that are missing in the folder. What is written when ctx is cancelled stays.
func (l *List) Run(ctx context.Context) error {
	err := l.run(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return l.interrupted()
	}
	return err
}

// run does what can be refused first.
func (l *List) run(ctx context.Context) (err error) {
	o := l.options
	if err := l.checkSpace(); err != nil {
		return err
	}
	if l.pictures, err = lookAt(l.jobs, o.Background, l.host.Log); err != nil {
		return err
	}
	model, err := l.load(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.weights.Close()) }()
	l.model, l.files = model.Model, model.files
	l.pictures.fillSizes(l.jobs, l.model)
	given, err := o.openLatents(l.jobs, l.model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, given.Close()) }()
	l.given = given
	if err := l.compare(model.files); err != nil {
		return err
	}
	if l.backend, err = l.host.Open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.backend.Close()) }()
	l.compareDevices()
	if err := l.prepare(); err != nil {
		return err
	}
	err = l.sample(ctx)
	return errors.Join(err, l.latents.Close())
}

// interrupted is what a signal ended with.
func (l *List) interrupted() error {
	if !l.out.began && l.out.goOn == nil {
		return fmt.Errorf("%w before the first image: nothing was lost, the same command starts again", ErrInterrupted)
	}
	return fmt.Errorf("%w, %d of %d images are in %s: the same command with --resume goes on",
		ErrInterrupted, l.count(), len(l.jobs), l.options.OutputDir)
}
