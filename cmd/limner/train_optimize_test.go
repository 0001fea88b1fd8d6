package main

import (
	"math"
	"testing"

	"limner/train/optim"
)

// The learning rate is scaled by the images of an optimizer step over all devices, as diffusers' scripts do.
func TestOptimizeFlags(t *testing.T) {
	f := trainFlags{TrainBatchSize: 4, LearningRate: 1e-5}
	f.GradientAccumulationSteps, f.ScaleLR, f.Optimizer, f.AdamMomentsDType, f.Use8bitAdam = 3, true, "lion", "f32", true
	o := f.options(2)
	if want := 1e-5 * float64(4*2*3); math.Abs(o.LearningRate-want) > 1e-12 || o.Batch != 8 || o.Accumulation != 3 {
		t.Errorf("got %+v, want a learning rate of %g for 3 batches of 8", o, want)
	}
	if o.Optimizer.Name != optim.OptimizerLion || o.Optimizer.Moments != optim.Moments8Bit {
		t.Errorf("got %+v, want Lion with moments of 8 bits", o.Optimizer)
	}
}
