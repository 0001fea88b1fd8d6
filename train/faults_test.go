package train

import (
	"fmt"
	"slices"
	"testing"

	"limner/train/folder"
	"limner/train/optim"
)

// The silent faults of diffusers 0.30.3's train_controlnet_flax.py, each with the test that shows it is not here. Where
// it is not below it is:
//
//   - weights of min-SNR that fall on columns: TestMinSNRWeighsImages of train/loss
//   - a seed that random numbers on the devices do not follow: TestRandomNumbers of train/loss
//   - accumulation that is counted twice: TestAccumulationIsALargeBatch
//   - epochs that are not divided by the batch nor shuffled anew: TestAccumulationIsALargeBatch, and tests of data
//   - checkpoints of parameters only: TestResumeToTheSameBits, TestResumeWithAccumulation
//   - a flag for a compilation cache that does nothing: TestDiffusersFlags of cmd/limner

// The learning rate follows --lr_scheduler and its warm-up, and the last step is in the metrics and in a checkpoint
// like any other.
func TestFaultsOfTheLoop(t *testing.T) {
	o, r, _ := smallRun(t, smallModel(t), smallDataset(t))
	o.MaxTrainSteps, o.CheckpointingSteps, o.Schedule = 5, 2, optim.Schedule{Name: "linear", Warmup: 2}
	steps := runOf(t, newDecoder, o, r)
	var rates []float64
	for _, p := range steps {
		rates = append(rates, p.LearningRate/o.LearningRate)
	}
	if want := []float64{
		0, 0.5, 1, 2.0 / 3, 1.0 / 3,
	}; !slices.EqualFunc(rates, want, func(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 }) {
		t.Errorf("the learning rates were %v of the whole, want %v", rates, want)
	}
	names, err := folder.Checkpoints(o.OutputDir)
	if err != nil || fmt.Sprint(names) != "[checkpoint-5 checkpoint-4 checkpoint-2]" {
		t.Errorf("got %v, %v, want the last step among the checkpoints", names, err)
	}
}
