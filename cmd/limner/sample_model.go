package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"limner/data"
	"limner/models/diffusers"
	"limner/sample"
)

// loadedModel is a model whose weights are still in their files.
type loadedModel struct {
	sample.Model
	weights *diffusers.Weights
	files   []usedFile // that it was loaded from
}

// load opens the model's files.
func (c *sampleCmd) load(ctx context.Context, work []*job) (loadedModel, error) {
	var m loadedModel
	pipeline, err := c.openModel(ctx)
	if err != nil {
		return m, err
	}
	m.Model = sample.Model{Pipeline: pipeline, Compute: c.compute(), Log: os.Stderr, VAESlicing: c.VAESlicing, VAETiling: c.VAETiling}
	for _, j := range work {
		if _, err := sample.NewPlan(j.Scheduler, pipeline.Noise, j.NumInferenceSteps, j.planOptions()); err != nil {
			return m, usageError{err}
		}
	}
	if err := c.loadAdditions(ctx, &m); err != nil {
		return m, err
	}
	if m.weights, err = pipeline.Weights(pipeline.Components()...); err != nil {
		return m, configError{err}
	}
	m.Weights = m.weights
	sum, err := m.weights.Fingerprint(pipeline.Components()...)
	if err != nil {
		return m, errors.Join(configError{err}, m.weights.Close())
	}
	m.files = append(c.modelFiles(sum), m.files...)
	for _, name := range c.ControlNets {
		if err := c.loadControlNet(ctx, name, &m); err != nil {
			return m, errors.Join(err, m.weights.Close())
		}
	}
	return m, nil
}

// loadAdditions reads LoRAs and textual inversions.
func (c *sampleCmd) loadAdditions(ctx context.Context, m *loadedModel) error {
	for _, name := range c.LoRA {
		path, err := locate(ctx, name, "")
		if err != nil {
			return err
		}
		lora, err := m.Pipeline.OpenLoRA(path)
		if err != nil {
			return configError{err}
		}
		m.LoRAs = append(m.LoRAs, lora)
		sum, err := fileSum(path)
		if err != nil {
			return err
		}
		m.files = append(m.files, named(loraFlag, name, sum))
	}
	for _, name := range c.TextualInversion {
		token, path, ok := strings.Cut(name, "=")
		if !ok {
			token, path = "", name
		}
		if err := m.Pipeline.AddEmbedding(path, token); err != nil {
			return configError{err}
		}
		sum, err := fileSum(path)
		if err != nil {
			return err
		}
		m.files = append(m.files, named(inversionFlag, name, sum))
	}
	return nil
}

func (c *sampleCmd) loadControlNet(ctx context.Context, name string, m *loadedModel) error {
	path, err := locate(ctx, name, c.Variant)
	if err != nil {
		return err
	}
	config, err := diffusers.ReadControlNet(path)
	if err != nil {
		return configError{err}
	}
	if n := config.ConditioningChannels; n != 3 {
		return configError{fmt.Errorf("load %s: conditioning_channels is %d, images have 3", path, n)}
	}
	component := sample.ControlNetName(len(m.ControlNets))
	if err := m.weights.Open(component, path, config.Tree()); err != nil {
		return configError{err}
	}
	sum, err := m.weights.Fingerprint(component)
	if err != nil {
		return configError{err}
	}
	m.files = append(m.files, named(controlNetFlag, name, sum))
	m.ControlNets = append(m.ControlNets, config)
	return nil
}

// pictures reads files once each, and says once what any of them lost.
type pictures struct {
	decoding data.Decoding
	read     map[string]picture
	noted    map[data.Note]bool
}

type picture struct {
	*data.RGB
	sum string // the file's SHA-256
}

func newPictures(background string) (*pictures, error) {
	decoding, err := data.NewDecoding(background)
	return &pictures{decoding: decoding, read: map[string]picture{}, noted: map[data.Note]bool{}}, err
}

// open reads the picture that a flag names for a job.
func (p *pictures) open(flag, path string, j *job) (*data.RGB, error) {
	m, ok := p.read[path]
	if !ok {
		var err error
		if m, err = p.decode(strings.ReplaceAll(flag, "_", " "), path); err != nil {
			return nil, err
		}
		p.read[path] = m
	}
	j.files = append(j.files, named(flag, path, m.sum))
	return m.RGB, nil
}

func (p *pictures) decode(what, path string) (picture, error) {
	raw, err := data.ReadImage(path)
	if err != nil {
		return picture{}, fmt.Errorf("load %s: %w", what, err)
	}
	m, notes, err := p.decoding.Decode(raw)
	if err != nil {
		return picture{}, fmt.Errorf("load %s %s: %w", what, path, err)
	}
	for _, note := range notes {
		if !p.noted[note] {
			fmt.Fprintf(os.Stderr, "%s %s: %s (said once)\n", what, path, note)
		}
		p.noted[note] = true
	}
	sum := sha256.Sum256(raw)
	return picture{m, hex.EncodeToString(sum[:])}, nil
}

// readPictures reads what the jobs begin from and fills in sizes that no flag set.
func (c *sampleCmd) readPictures(work []*job, m sample.Model) error {
	p, err := newPictures(c.Background)
	if err != nil {
		return usageError{err}
	}
	for _, j := range work {
		if err := j.read(p, m); err != nil {
			return err
		}
	}
	return c.readLatents(work, m)
}

// read reads the pictures of one image and resizes them as diffusers does.
func (j *job) read(p *pictures, m sample.Model) error {
	var image, mask *data.RGB
	var err error
	if j.Image != nil {
		if image, err = p.open(imageFlag, j.Image[0], j); err != nil {
			return err
		}
	}
	if j.Mask != nil {
		if mask, err = p.open(maskFlag, j.Mask[0], j); err != nil {
			return err
		}
		if mask.Width*image.Height != mask.Height*image.Width {
			return fmt.Errorf("mask %s of %d×%d pixels has another aspect than image %s of %d×%d", j.Mask[0], mask.Width, mask.Height, j.Image[0], image.Width, image.Height)
		}
	}
	j.fillSize(m, image)
	if image != nil {
		if j.image, err = data.Resize(image, j.Width, j.Height, data.Lanczos); err != nil {
			return fmt.Errorf("load image %s: %w", j.Image[0], err)
		}
	}
	if mask != nil {
		if j.mask, err = data.Resize(mask, j.Width, j.Height, data.Lanczos); err != nil {
			return fmt.Errorf("load mask %s: %w", j.Mask[0], err)
		}
	}
	for _, path := range j.ControlImage {
		control, err := p.open(controlFlag, path, j)
		if err == nil {
			if j.Preprocess == "canny" {
				control = data.Canny(control, data.CannyLow, data.CannyHigh, false)
			}
			control, err = data.Resize(control, j.Width, j.Height, data.Lanczos)
		}
		if err != nil {
			return fmt.Errorf("load control image %s: %w", path, err)
		}
		j.controls = append(j.controls, control)
	}
	return nil
}

// fillSize sets the size of the image where nothing did: that of the image to begin from, rounded down to what the VAE takes, or what
// the model was trained for.
func (j *job) fillSize(m sample.Model, image *data.RGB) {
	scale := m.Pipeline.VAE.Scale()
	height, width := m.Pipeline.UNet.SampleSize*scale, m.Pipeline.UNet.SampleSize*scale
	if image != nil {
		height, width = max(1, image.Height/scale)*scale, max(1, image.Width/scale)*scale
	}
	if j.Height == 0 {
		j.Height = height
	}
	if j.Width == 0 {
		j.Width = width
	}
}
