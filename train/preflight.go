package train

import (
	"context"
	"errors"
	"fmt"
	"net"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/sample/schedule"
	"limner/train/folder"
	"limner/xla"
)

// Preflight fails where a run would be refused for anything but its model: so it comes before that is looked for, and
// maybe downloaded. What takes least comes first: the fields, the folders, the address, the pictures, the rows, which
// FindData may have to bring.
func (r *Recipe) Preflight(b *xla.Backend, o Options) error {
	err := r.Check(o, b.Devices())
	if err == nil && processesOf(b).leads() {
		err = r.checkPlaces(o)
	}
	if err == nil {
		err = r.checkPictures()
	}
	if err == nil && r.FindData != nil {
		r.Data, err = r.FindData()
		r.FindData = nil
	}
	if err == nil {
		err = r.checkRows(b, o)
	}
	return processesOf(b).agree(err)
}

// checkPlaces fails where the run could not write or listen.
func (r Recipe) checkPlaces(o Options) error {
	if err := disk.Writable(o.OutputDir); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	if r.CacheDir != "" {
		if err := disk.Writable(r.CacheDir); err != nil {
			return fmt.Errorf("cache_dir: %w", err)
		}
	}
	if address := r.Watch.MetricsAddress; address != "" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("metrics_address: %w", err)
		}
		return listener.Close()
	}
	return nil
}

// checkPictures fails where a picture of validation cannot be read.
func (r Recipe) checkPictures() error {
	decoding, err := imaging.NewDecoding(r.Background)
	if err != nil {
		return err
	}
	for flag, paths := range map[string][]string{
		"validation_image": r.Watch.Validation.Images, "validation_target": r.Watch.Validation.Targets,
	} {
		for _, path := range paths {
			if _, _, err := decoding.DecodeFile(path); err != nil {
				return fmt.Errorf("%s: %w", flag, err)
			}
		}
	}
	return nil
}

// checkRows fails where the rows cannot be trained on, or held-out ones not be measured. The images of a class may
// still be missing.
func (r Recipe) checkRows(b *xla.Backend, o Options) (err error) {
	own := r
	if own.Prior != nil {
		own.Prior, o.Batch = nil, o.Batch/2
	}
	own.Log = nil // whoever opens the rows to read them says what there is to say
	d, err := own.dataset(b, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if batches := d.StepsPerEpoch(); batches < o.Accumulation {
		return tooManyBatches(o, d)
	}
	if len(r.Watch.Validation.Data) == 0 {
		return nil
	}
	held, err := own.ofHeldOut().dataset(b, o)
	if err == nil {
		err = errors.Join(apart(d, held), held.Close())
	}
	if err != nil {
		return fmt.Errorf("validation_data_dir: %w", err)
	}
	return nil
}

// ready comes when the model's configs are known: it fails where validation could not draw or the disk cannot hold what
// is trained, and then has the images of the class drawn.
func (r Recipe) ready(ctx context.Context, b *xla.Backend, o Options, model *diffusers.Pipeline,
	trainable nn.Tree) error {
	if v := r.Watch.Validation; len(v.Prompts) > 0 {
		options := schedule.DefaultOptions()
		options.LatentSize = [2]int{r.Resolution / model.VAE.Scale(), r.Resolution / model.VAE.Scale()}
		if _, err := schedule.New(v.Scheduler, model.Noise, v.NumInferenceSteps, options); err != nil {
			return fmt.Errorf("validation_scheduler, validation_inference_steps: %w", err)
		}
	}
	if processesOf(b).leads() {
		if err := checkFirstSpace(o, trainable); err != nil {
			return err
		}
	}
	if r.DrawClass == nil || r.Prior == nil {
		return nil
	}
	return r.DrawClass(ctx)
}

// checkFirstSpace fails where the disk cannot hold what is trained, before the rows are counted, which may be what the
// number of steps follows from: at least one checkpoint is written.
func checkFirstSpace(o Options, trainable nn.Tree) error {
	step, err := folder.Newest(o.OutputDir)
	if err != nil {
		return err
	}
	steps := o.steps(0)
	if steps == 0 {
		steps = step + 1
	}
	return o.output().CheckSpace(o.contents(trainable, nil), step, steps)
}
