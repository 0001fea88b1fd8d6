package main

import (
	"math"
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
