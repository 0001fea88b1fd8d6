package train

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"limner/data"
	"limner/internal/refusal"
	"limner/internal/units"
	"limner/xla"
)

// rows says what is read of the dataset. Beside other processes, this one's part of each batch is.
func (r Recipe) rows(b *xla.Backend, o Options) data.Options {
	rows := data.DefaultOptions()
	rows.Reading, rows.MaskColumn = r.Reading, r.MaskColumn
	rows.NeedConditioning, rows.HeldOut, rows.Log = r.NeedConditioning, r.heldOut, r.Log
	rows.Condition, rows.KeypointsColumn = r.Condition, cmp.Or(r.KeypointsColumn, "keypoints")
	rows.NoCaptions = r.NoCaptions || r.InstancePrompt != "" || r.Property != "" && r.Property != PropertyCaption
	rows.Resolution, rows.BatchSize, rows.Seed = r.Resolution, o.Batch, o.Seed
	rows.Part, rows.Parts = processesOf(b).part()
	return rows
}

// dataset opens the images, and those of the class behind them. It fails where no batch of them can be made, and where
// none of the first can be used.
func (r Recipe) dataset(b *xla.Backend, o Options) (d *data.Dataset, err error) {
	rows := r.rows(b, o)
	if r.Prior == nil {
		d, err = data.Open(r.Data, rows)
	} else {
		d, err = data.OpenBoth(r.Data, r.Prior.Data, rows)
	}
	if err != nil {
		return nil, err
	}
	if err = d.CheckBatches(); err == nil {
		err = checkBatchMemory(rows)
	}
	if err == nil {
		err = d.CheckRows()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// bothDatasets opens the images to train on and those for the validation loss, nil if there are to be none, before
// either is encoded.
func (r Recipe) bothDatasets(b *xla.Backend, o Options) (dataset, held *data.Dataset, err error) {
	if dataset, err = r.dataset(b, o); err != nil || len(r.Watch.Validation.Data) == 0 {
		return dataset, nil, err
	}
	if held, err = r.ofHeldOut().dataset(b, o); err == nil {
		err = apart(dataset, held)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("validation_data_dir: %w", err), closeBoth(dataset, held))
	}
	return dataset, held, nil
}

// apart fails where rows of held are trained on.
func apart(dataset, held *data.Dataset) error {
	shared, err := held.Shares(dataset)
	if err == nil && shared != "" {
		err = fmt.Errorf("%s is trained on: name images that training does not see", shared)
	}
	return err
}

// closeBoth closes the datasets of bothDatasets.
func closeBoth(dataset, held *data.Dataset) error {
	err := dataset.Close()
	if held != nil {
		err = errors.Join(err, held.Close())
	}
	return err
}

// ofHeldOut reads the rows for the validation loss in place of those to train on.
func (r Recipe) ofHeldOut() Recipe {
	r.Data = slices.Clone(r.Watch.Validation.Data)
	r.Prior, r.Split, r.RandomFlip, r.RandomCrop, r.heldOut = nil, "", false, false, true
	r.ForceFlip, r.ShuffleTags, r.KeepTokens = false, false, 0
	return r
}

// tooManyBatches refuses an optimizer step of more batches than an epoch has.
func tooManyBatches(o Options, d *data.Dataset) error {
	return refusal.Errorf("gradient_accumulation_steps: %d batches of %d are more than the %d rows of the "+
		"dataset: use fewer", o.Accumulation, o.Batch, d.Len())
}

// checkBatchMemory fails where the batches that are decoded ahead do not fit this machine's memory.
func checkBatchMemory(o data.Options) error {
	channels := 3
	if o.NeedConditioning {
		channels += 3
	}
	if o.MaskColumn != "" {
		channels++
	}
	rows, batches := o.BatchSize/max(1, o.Parts), o.Prefetch+2
	need := 4 * float64(batches) * float64(rows) * float64(o.Resolution) * float64(o.Resolution) * float64(channels)
	if free := xla.FreeMemory(); free > 0 && need > float64(free) {
		return refusal.Errorf("%d batches of %d images of %d×%d pixels, which are decoded ahead, take %s of memory, "+
			"%s are free: give a smaller --train_batch_size or --resolution",
			batches, rows, o.Resolution, o.Resolution, units.Bytes(int64(min(need, 1e18))), units.Bytes(free))
	}
	return nil
}
