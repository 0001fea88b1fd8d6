package sample

import (
	"fmt"
	"math"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/noise"
	"limner/sample/schedule"
)

func mustSchedule(t *testing.T, name string, c noise.Config, steps int, o schedule.Options) schedule.Schedule {
	t.Helper()
	s, err := schedule.New(name, c, steps, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func doubles(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// memoryKey names a tensor of the memory.
func memoryKey(i int) string { return fmt.Sprintf("memory%d", i) }

// The graph takes the steps that the host takes, for every scheduler by one program, and for a threshold by another.
func TestStepGraphFollowsTheHost(t *testing.T) {
	shape := []int{2, 2, 3, 2}
	const size = 12
	sd15 := noise.Defaults(noise.PNDM)
	sd15.BetaStart, sd15.BetaEnd, sd15.BetaSchedule, sd15.SkipPRKSteps = 0.00085, 0.012, "scaled_linear", true
	o := schedule.DefaultOptions()
	o.Eta = 0.5
	clipped := noise.Default()
	thresholded := clipped
	thresholded.Thresholding, thresholded.SampleMaxValue, thresholded.DynamicThresholdingRatio = true, 1.5, 0.8
	for _, c := range []struct {
		name      string
		schedules []schedule.Schedule
		threshold schedule.Threshold
	}{
		{"plain", []schedule.Schedule{
			mustSchedule(t, "unipc", sd15, 20, o), mustSchedule(t, "pndm", sd15, 20, o),
			mustSchedule(t, "ddim", clipped, 20, o), mustSchedule(t, "dpm++_3m", sd15, 20, o),
			mustSchedule(t, "heun", sd15, 20, o),
		}, schedule.Threshold{}},
		{
			"threshold", []schedule.Schedule{mustSchedule(t, "ddim", thresholded, 20, o)},
			schedule.Threshold{Ratio: 0.8, Max: 1.5},
		},
	} {
		// One program takes every schedule's step 9.
		const at = 9
		inputs := []parity.Tensor{}
		for i := range 3 + schedule.Memories {
			data := make([]float32, 2*size)
			for j := range data {
				data[j] = float32(3 * math.Sin(float64(7*i+j*j)))
			}
			inputs = append(inputs, parity.Tensor{Data: data, Shape: shape})
		}
		for _, s := range c.schedules {
			if s.Threshold != c.threshold {
				t.Fatalf("%s: threshold %v, want %v", s.Scheduler, s.Threshold, c.threshold)
			}
			inputs = append(inputs, parity.Tensor{Data: s.Coefficients(at), Shape: []int{schedule.CoefficientCount}})
		}
		got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
			memory := in[3 : 3+schedule.Memories]
			for i, coefficients := range in[3+schedule.Memories:] {
				next, nextMemory := schedulerStep(c.threshold, in[0], in[1], memory, in[2], coefficients)
				scaled, timesteps := networkInput(in[0], coefficients)
				key := c.schedules[i].Scheduler + " "
				out[key+"next"], out[key+"scaled"], out[key+"timesteps"] = next, scaled, timesteps
				for m, node := range nextMemory {
					out[key+memoryKey(m)] = node
				}
			}
		})
		for _, s := range c.schedules {
			call := s.Calls[at]
			want := map[string]parity.Tensor{
				"next":      {Data: make([]float32, 2*size), Shape: shape},
				"scaled":    inputs[0].Map(func(v float32) float32 { return v * float32(call.InputScale) }),
				"timesteps": {Data: []float32{float32(call.Timestep), float32(call.Timestep)}, Shape: []int{2}},
			}
			for m := range schedule.Memories {
				want[memoryKey(m)] = parity.Tensor{Data: make([]float32, 2*size), Shape: shape}
			}
			for image := range 2 {
				part := func(i int) []float64 { return doubles(inputs[i].Data[image*size : (image+1)*size]) }
				var memory [schedule.Memories][]float64
				for m := range memory {
					memory[m] = part(3 + m)
				}
				next, nextMemory := s.Step(at, part(0), part(1), memory, part(2))
				for j := range size {
					want["next"].Data[image*size+j] = float32(next[j])
					for m, values := range nextMemory {
						want[memoryKey(m)].Data[image*size+j] = float32(values[j])
					}
				}
			}
			for key, w := range want {
				parity.Check(t, s.Scheduler+" "+key, got[s.Scheduler+" "+key], w, 2e-6)
			}
		}
	}
}
