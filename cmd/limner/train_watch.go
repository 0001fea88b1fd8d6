package main

import (
	"fmt"
	"strings"

	"limner/train/watch"
)

// watchFlags say what a training shows of itself. None changes its result.
type watchFlags struct {
	ValidationPrompt         []string `sep:"none" placeholder:"TEXT" help:"Prompt to draw while training; may be given several times."`
	ValidationImage          []string `sep:"none" placeholder:"FILE" help:"Conditioning image for a ControlNet to draw with: one for all prompts, one for each, or several for one prompt."`
	ValidationSteps          int      `default:"${validation_steps}" help:"Steps between validations; the last step has one too."`
	NumValidationImages      int      `default:"${validation_images}" help:"Images for each prompt, with the same noise every time."`
	ValidationInferenceSteps int      `default:"${validation_inference_steps}" help:"Denoising steps of these images."`
	ValidationGuidanceScale  float64  `default:"${validation_guidance}" help:"How far they follow the prompt."`
	ValidationScheduler      string   `default:"${validation_scheduler}" help:"Their scheduler, as of limner sample."`
	ValidationCondition      string   `enum:"canny,outline," default:"" placeholder:"NAME" help:"What --validation_image shows, canny or outline: it is taken from the images again, to measure how much of it they follow."`
	ValidationDataDir        []string `sep:"none" placeholder:"DIR" help:"Parquet files of images that training does not see, for the validation loss by timesteps."`
	ValidationRows           int      `default:"${validation_rows}" help:"How many of them."`

	ReportTo       string  `enum:"tensorboard,none" default:"tensorboard" help:"tensorboard or none. metrics.jsonl and diary.html are always written."`
	LoggingDir     string  `default:"logs" help:"Folder for TensorBoard's events, below the output folder."`
	MetricsAddress string  `placeholder:"HOST:PORT" help:"Serve the run's numbers to Prometheus there, such as :9090."`
	ProfileSteps   int     `placeholder:"N" help:"Trace N steps into the output folder's profile/trace.json, for Perfetto or chrome://tracing."`
	PeakTFLOPs     float64 `name:"device-peak-tflops" placeholder:"X" help:"Peak of a device in TFLOP/s, for the share of it that is used; without it, with --backend tpu, the 275 of a TPU v4's chip."`
}

// tpuPeak is the bfloat16 peak of a TPU v4's chip in TFLOP/s.
const tpuPeak = 275

func (f watchFlags) watch(backend string) watch.Options {
	w := watch.Options{MetricsAddress: f.MetricsAddress, ProfileSteps: f.ProfileSteps, PeakTFLOPs: f.PeakTFLOPs}
	if f.ReportTo == "tensorboard" {
		w.LoggingDir = f.LoggingDir
	}
	if w.PeakTFLOPs == 0 && strings.EqualFold(backend, "tpu") {
		w.PeakTFLOPs = tpuPeak
	}
	w.Validation = watch.Validation{
		Steps: f.ValidationSteps, Prompts: f.ValidationPrompt, Images: f.ValidationImage, NumImages: f.NumValidationImages,
		NumInferenceSteps: f.ValidationInferenceSteps, GuidanceScale: f.ValidationGuidanceScale, Scheduler: f.ValidationScheduler,
		Condition: f.ValidationCondition, Data: f.ValidationDataDir, Rows: f.ValidationRows,
	}
	return w
}

// watchDefaults are the values of the flags' defaults, which package train holds.
func watchDefaults() map[string]string {
	v := watch.DefaultValidation()
	return map[string]string{
		"validation_steps": fmt.Sprint(v.Steps), "validation_images": fmt.Sprint(v.NumImages), "validation_inference_steps": fmt.Sprint(v.NumInferenceSteps),
		"validation_guidance": fmt.Sprint(v.GuidanceScale), "validation_scheduler": v.Scheduler, "validation_rows": fmt.Sprint(v.Rows),
	}
}
