package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"limner/data"
	"limner/models/checkpoint"
)

// The files of an output folder of limner sample, beside the images.
const (
	recordFile = "sample.json"
	gridFile   = "grid.png"
)

// sampleRecord is sample.json: how the images were made. It also tells the command's own files from others.
type sampleRecord struct {
	Model                       string        `json:"pretrained_model_name_or_path"`
	ControlNet                  string        `json:"controlnet_model_name_or_path,omitempty"`
	NegativePrompt              *string       `json:"negative_prompt"` // null where none was given
	PromptStyle                 string        `json:"prompt_style"`
	ClipSkip                    int           `json:"clip_skip"`
	LoRAs                       []string      `json:"lora,omitempty"`
	LoRAScales                  []float64     `json:"lora_scale,omitempty"`
	TextualInversions           []string      `json:"textual_inversion,omitempty"`
	Height                      int           `json:"height"`
	Width                       int           `json:"width"`
	NumInferenceSteps           int           `json:"num_inference_steps"`
	GuidanceScale               float64       `json:"guidance_scale"`
	ControlNetConditioningScale float64       `json:"controlnet_conditioning_scale"`
	Images                      []imageRecord `json:"images"`
}

type imageRecord struct {
	File         string `json:"file"`
	Prompt       string `json:"prompt"`
	Seed         uint64 `json:"seed"`
	ControlImage string `json:"control_image,omitempty"`
}

// output is a folder that is new, empty, or holds an earlier result of limner sample and nothing else.
type output struct {
	dir string
	old []string // the earlier result's images and grid
}

// openOutput refuses a folder that holds anything else, and touches nothing.
func openOutput(dir string) (*output, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return &output{dir: dir}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	var record sampleRecord
	raw, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err == nil {
		err = json.Unmarshal(raw, &record)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("output folder: %s: %w", filepath.Join(dir, recordFile), err)
	}
	own := []string{recordFile, gridFile}
	for _, image := range record.Images {
		own = append(own, image.File)
	}
	o := &output{dir: dir}
	for _, e := range entries {
		if err != nil || !slices.Contains(own, e.Name()) {
			return nil, fmt.Errorf("output folder %s holds something else (%s): name another, or empty it", dir, e.Name())
		}
		if e.Name() != recordFile {
			o.old = append(o.old, e.Name())
		}
	}
	return o, nil
}

// write replaces what is in the folder. The record comes first, so that whatever happens the files are known as the command's own.
func (o *output) write(record sampleRecord, images []*data.RGB, grid *data.RGB) error {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	for _, name := range o.old {
		if err := os.Remove(filepath.Join(o.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("output folder: %w", err)
		}
	}
	if err := checkpoint.WriteJSON(filepath.Join(o.dir, recordFile), record); err != nil {
		return err
	}
	for i, m := range images {
		if err := data.WritePNG(filepath.Join(o.dir, record.Images[i].File), m); err != nil {
			return err
		}
	}
	if grid == nil {
		return nil
	}
	return data.WritePNG(filepath.Join(o.dir, gridFile), grid)
}
