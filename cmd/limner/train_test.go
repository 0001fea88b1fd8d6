package main

import (
	"math"
	"strings"
	"testing"

	"limner/train/optim"
)

// The learning rate is scaled by the images of an optimizer step over all devices, as diffusers' scripts do.
func TestShorthands(t *testing.T) {
	var f trainFlags
	f.TrainBatchSize, f.ScaleLR, f.Use8bitAdam, f.DeviceMemoryGB = 4, true, true, 1.5
	f.Options.LearningRate, f.Options.Accumulation = 1e-5, 3
	f.Options.Optimizer.Name, f.Options.EMA = optim.OptimizerLion, &optim.EMA{}
	o, r := f.settings(2)
	if want := 1e-5 * float64(4*2*3); math.Abs(o.LearningRate-want) > 1e-12 || o.Batch != 8 || o.Accumulation != 3 {
		t.Errorf("got %+v, want a learning rate of %g for 3 batches of 8", o, want)
	}
	if o.Optimizer.Name != optim.OptimizerLion || o.Optimizer.Moments != optim.Moments8Bit || o.EMA != nil ||
		o.MaxDeviceMemory != 1.5e9 {
		t.Errorf("got %+v, want Lion with moments of 8 bits, no average, and 1.5 GB of a device", o)
	}
	if !r.RandomCrop { // without --center_crop
		t.Errorf("got %+v, want random crops", r)
	}
}

// Lengths are multiplied with the dataset's batches, and so are bounded.
func TestLengthsAreBounded(t *testing.T) {
	for flag, want := range map[string]string{
		"--max_train_steps=9223372036854775807":  "max_train_steps: got 9223372036854775807, want at most 10000",
		"--max_train_images=9223372036854775807": "max_train_images: got 9223372036854775807, want at most",
		"--num_train_epochs=9223372036854775807": "num_train_epochs: got 9223372036854775807, want at most",
		"--max_device_memory=-1e300":             "max_device_memory: got -1e+09 GB, want at least 0",
		"--max_device_memory=1e300":              "",
	} {
		_, _, err := trainSettings(parseTraining(t, "vae", flag), 1, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", flag, err, want)
		}
	}
}

// parseTraining parses a command line of limner train.
func parseTraining(t *testing.T, kind string, flags ...string) trainer {
	t.Helper()
	args := append([]string{kind, "--model", "m", "--train_data_dir", "d", "--output_dir", "o"}, flags...)
	command, err := parseTrain(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return command.Selected().Target.Interface().(trainer)
}
