package train

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/train/optim"
)

// The silent faults of diffusers 0.30.3's train_controlnet_flax.py, each with the test that shows it is not here. Where it is not
// below it is:
//
//   - weights of min-SNR that fall on columns: TestMinSNRWeighsImages
//   - accumulation that is counted twice: TestAccumulationIsALargeBatch
//   - epochs that are not divided by the batch nor shuffled anew: TestAccumulationIsALargeBatch, and the tests of data's order
//   - checkpoints of parameters only: TestResumeToTheSameBits, TestResumeWithAccumulation
//   - a flag for a compilation cache that does nothing: TestDiffusersFlags of cmd/limner

// The learning rate follows --lr_scheduler and its warm-up, and the last step is in the metrics and in a checkpoint like any other.
func TestFaultsOfTheLoop(t *testing.T) {
	o, r, _ := smallRun(t, smallModel(t), smallDataset(t))
	o.MaxTrainSteps, o.CheckpointingSteps, o.Schedule = 5, 2, optim.Schedule{Name: "linear", Warmup: 2}
	steps := runOf(t, newDecoder, o, r)
	var rates []float64
	for _, p := range steps {
		rates = append(rates, p.LearningRate/o.LearningRate)
	}
	if want := []float64{0, 0.5, 1, 2.0 / 3, 1.0 / 3}; !slices.EqualFunc(rates, want, func(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 }) {
		t.Errorf("the learning rates were %v of the whole, want %v", rates, want)
	}
	names, err := Checkpoints(o.OutputDir)
	if err != nil || fmt.Sprint(names) != "[checkpoint-5 checkpoint-4 checkpoint-2]" {
		t.Errorf("got %v, %v, want the last step among the checkpoints", names, err)
	}
}

// The seed reaches the device's random numbers, and no two purposes share them.
func TestFaultsOfRandomNumbers(t *testing.T) {
	seeds := parity.Tensor{Data: []float32{1, 2}, Shape: []int{2}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{seeds}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for seed := range 2 {
			key := ConvertDType(Reshape(Slice(in[0], AxisElem(seed))), dtypes.Uint64)
			for step := range 2 {
				draw := Draws{seed: key, step: Const(key.Graph(), uint64(step+1))}
				for _, purpose := range []uint32{drawNoise, drawTimesteps, drawPosterior, drawOffset, drawPerturbation, drawRounding} {
					out[fmt.Sprintf("seed %d, step %d, purpose %d", seed, step, purpose)] = draw.normal(purpose, 8)
				}
			}
		}
	})
	seen := map[string]string{}
	for name, x := range got {
		key := fmt.Sprint(x.Data)
		if other, ok := seen[key]; ok {
			t.Errorf("the numbers of %s are those of %s", name, other)
		}
		seen[key] = name
	}
}
