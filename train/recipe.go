package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/controlnet/condition"
	"limner/data"
	"limner/data/imaging"
	"limner/train/loss"
	"limner/train/watch"
)

// Recipe is what a run trains on what, besides its Options.
type Recipe struct {
	Basics
	Diffusion
	ControlNetSettings
	TextEncoderSettings
	DreamBooth
	LoRASettings
	Inversion
	Autoencoder
	Compute dtypes.DType  `json:"compute_dtype" resume:"same"` // of activations: Float32 or BFloat16
	Watch   watch.Options `json:"-"`                           // what is shown of the run

	NeedConditioning bool   `json:"-"` // the rows have conditioning images
	NoCaptions       bool   `json:"-"` // the rows need no captions
	heldOut          bool   // the rows are those that training does not see
	Text             []byte `json:"-"` // recipe.yaml of the output folder: what a person gave; nil writes none
	// Planned says that nothing but Run.Plan will be asked of it: no data and no weights are read, and Model may be one
	// of diffusers.Families.
	Planned  bool                  `json:"-"`
	Log      io.Writer             `json:"-"` // hears what a person may want to know; nil: silence
	OnStep   func(watch.Progress)  `json:"-"`
	OnEncode func(done, total int) `json:"-"` // while latents are cached

	// FindData brings the rows of DatasetName here and says where they are: after all was checked that needs no rows.
	// nil: Data says so.
	FindData func() ([]string, error) `json:"-"`

	// DrawClass has the images of the class drawn that Prior's folder lacks: after all else was checked, before the
	// rows are read. nil: they are there.
	DrawClass func(context.Context) error `json:"-"`
}

// Validate reports every field out of range.
func (r Recipe) Validate() error {
	var errs []error
	if r.Model == "" {
		errs = append(errs, errors.New("pretrained_model_name_or_path: give a model folder"))
	}
	if len(r.Data) == 0 && r.DatasetName == "" && !r.Planned {
		errs = append(errs, errors.New("train_data_dir, dataset_name: give a folder of parquet files or of images, "+
			"or the name of a dataset on the Hub"))
	}
	if r.Resolution < 1 || r.Resolution > data.MaxResolution {
		errs = append(errs, fmt.Errorf("resolution: got %d, want 1 to %d", r.Resolution, data.MaxResolution))
	}
	if !(r.ProportionEmpty >= 0 && r.ProportionEmpty <= 1) {
		errs = append(errs, fmt.Errorf("proportion_empty_prompts: got %g, want 0 to 1", r.ProportionEmpty))
	}
	if _, err := imaging.NewDecoding(r.Background); err != nil {
		errs = append(errs, err)
	}
	if r.Interpolation != "" {
		if err := r.Interpolation.Check(); err != nil {
			errs = append(errs, fmt.Errorf("image_interpolation_mode: %w", err))
		}
	}
	if r.Condition != "" {
		if _, err := condition.Parse(r.Condition); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, r.checkFlips())
	if r.CacheLatents && r.RandomCrop {
		errs = append(errs, errors.New("cache_latents: a random crop shows each image anew in every epoch: "+
			"give --center_crop, or leave one of them out"))
	}
	if r.CacheDir != "" && !r.CacheLatents {
		errs = append(errs, errors.New("cache_dir: it keeps latents and goes with --cache_latents; "+
			"models of the Hub are kept below HF_HOME"))
	}
	if r.LoRA != nil {
		errs = append(errs, r.LoRA.Validate())
		if !slices.Contains(loss.LoRAFormats, r.LoRAFormat) {
			errs = append(errs, fmt.Errorf("lora_format: got %q, want %s",
				r.LoRAFormat, strings.Join(loss.LoRAFormats, ", ")))
		}
	}
	if r.Prior != nil {
		errs = append(errs, r.Prior.Validate())
	}
	if r.Property != "" && !slices.Contains(Properties, r.Property) {
		errs = append(errs, fmt.Errorf("learnable_property: got %q, want %s",
			r.Property, strings.Join(Properties, ", ")))
	}
	errs = append(errs, r.Loss.Validate())
	return errors.Join(errs...)
}

// checkFlips fails if images are to be turned around whose prompt says left or right. What captions of the dataset say
// is seen when it is opened.
func (r Recipe) checkFlips() error {
	prompts := []string{r.InstancePrompt, ""}
	if r.Prior != nil {
		prompts[1] = r.Prior.Prompt
	}
	for i, name := range []string{"instance_prompt", "class_prompt"} {
		if word := data.Side(prompts[i]); word != "" && r.RandomFlip && !r.ForceFlip {
			return fmt.Errorf("random_flip: the %s says %s, which would be wrong for an image that is turned around: "+
				"leave it out, or give --force_flip too", name, word)
		}
	}
	return nil
}

// Check fails where a run on so many devices is refused without a look at the model and the dataset: its fields are out
// of range, or the output folder is another's. It touches nothing, and comes before anything takes long.
func (r Recipe) Check(o Options, devices int) error {
	if err := errors.Join(r.Validate(), o.Validate()); err != nil {
		return err
	}
	if !r.Planned {
		if err := o.output().Check(); err != nil {
			return err
		}
	}
	if o.Batch%devices != 0 {
		return fmt.Errorf("batch %d does not divide over %d devices: use a multiple of %d", o.Batch, devices, devices)
	}
	if r.Prior != nil && o.Batch%2 != 0 {
		return fmt.Errorf("batch %d: want an even number, half of it for the class", o.Batch)
	}
	return nil
}
