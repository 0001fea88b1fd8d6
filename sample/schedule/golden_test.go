package schedule

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/noise"
)

// schedulerGoldens is schedulers/index.json.
type schedulerGoldens struct {
	Schedulers map[string]struct {
		Cases []struct {
			Config             map[string]json.RawMessage `json:"config"`
			StepKwargs         json.RawMessage            `json:"step_kwargs"`
			SetTimestepsKwargs json.RawMessage            `json:"set_timesteps_kwargs"`
			Runs               map[string]struct {
				InitNoiseSigma    float64 `json:"init_noise_sigma"`
				StatesAt          []int   `json:"states_at"`
				NonfiniteFromStep *int    `json:"nonfinite_from_step"`
				Error             string  `json:"error"`
			} `json:"runs"`
		} `json:"cases"`
	} `json:"schedulers"`
}

// goldenNetwork is the network of the goldens: 0.3·x·cos(t/100) + 0.2·sin(2x + t/200).
func goldenNetwork(x []float64, t float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = 0.3*v*math.Cos(0.01*t) + 0.2*math.Sin(2*v+0.005*t)
	}
	return out
}

func doubles(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// Goldens: diffusers 0.42.1, torch 2.15, CPU, float32.
func TestParity(t *testing.T) {
	var index schedulerGoldens
	golden.ReadJSON(t, &index, "schedulers", "index.json")
	common := parity.Open(t, "schedulers", "common.safetensors")
	start := doubles(common.Get("x_T").Data)
	draws := doubles(common.Get("noise").Data)
	draw := func(i int) []float64 { return draws[i*len(start) : (i+1)*len(start)] }
	for class, s := range index.Schedulers {
		g := parity.Open(t, "schedulers", class+".safetensors")
		for i, c := range s.Cases {
			c.Config["_class_name"], _ = json.Marshal(class)
			raw, err := json.Marshal(c.Config)
			if err != nil {
				t.Fatal(err)
			}
			config, err := noise.ParseConfig(raw)
			if err != nil {
				t.Errorf("%s, case %d: %v", class, i, err)
				continue
			}
			options := DefaultOptions()
			for _, kwargs := range []json.RawMessage{c.StepKwargs, c.SetTimestepsKwargs} {
				if err := json.Unmarshal(kwargs, &options); kwargs != nil && err != nil {
					t.Fatal(err)
				}
			}
			tolerance := 1e-5
			if config.UseKarrasSigmas || config.UseExponentialSigmas || config.UseBetaSigmas || config.UseLuLambdas ||
				class == noise.LMS {
				tolerance = 5e-5
			}
			for n, run := range c.Runs {
				t.Run(fmt.Sprintf("%s/case%02d/n%s", class, i, n), func(t *testing.T) {
					var steps int
					if _, err := fmt.Sscan(n, &steps); err != nil {
						t.Fatal(err)
					}
					s, err := New(class, config, steps, options)
					if run.Error != "" {
						// The reference fails; a schedule that does not must stay finite.
						if err != nil {
							t.Logf("%v", err)
							return
						}
					} else if err != nil {
						t.Fatalf("%s: %v", raw, err)
					}
					key := fmt.Sprintf("case%02d/n%s/", i, n)
					if g.Has(key + "timesteps") {
						checkTimesteps(t, s, g.Get(key+"timesteps").Data)
					}
					if g.Has(key + "sigmas") {
						checkSigmas(t, s, g.Get(key+"sigmas").Data)
					}
					if want := run.InitNoiseSigma; run.Error == "" && math.Abs(s.InitNoiseSigma-want) > 1e-6*want {
						t.Errorf("init_noise_sigma: got %g, want %g", s.InitNoiseSigma, want)
					}
					x := slices.Clone(start)
					for i := range x {
						x[i] *= s.InitNoiseSigma
					}
					// The reference's float32 rounds as the largest latents so far have it: with a σ of 4096 that is
					// most of the error.
					worst, largest := 0.0, 0.0
					for _, v := range x {
						largest = max(largest, math.Abs(v))
					}
					s.Run(x, goldenNetwork, draw, func(call int, x []float64) {
						if slices.ContainsFunc(x, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }) {
							t.Fatalf("the latents after call %d are not finite", call)
						}
						if run.NonfiniteFromStep != nil && call >= *run.NonfiniteFromStep {
							return
						}
						if at := slices.Index(run.StatesAt, call); at >= 0 {
							want := g.Get(key + "states").Data[at*len(x) : (at+1)*len(x)]
							worst = max(worst, checkState(t, call, x, want, tolerance, largest/(1<<23)))
						}
					})
					t.Logf("worst error %.2g of %.2g", worst, tolerance)
				})
			}
		}
	}
}

func checkTimesteps(t *testing.T, s Schedule, want []float32) {
	t.Helper()
	if len(s.Calls) != len(want) {
		t.Fatalf("got %d calls, want %d", len(s.Calls), len(want))
	}
	for i, c := range s.Calls {
		if float32(c.Timestep) != want[i] {
			t.Errorf("timestep %d: got %v, want %v", i, c.Timestep, want[i])
		}
	}
}

func checkSigmas(t *testing.T, s Schedule, want []float32) {
	t.Helper()
	if len(s.Sigmas) != len(want) {
		t.Fatalf("got %d sigmas, want %d", len(s.Sigmas), len(want))
	}
	for i, got := range s.Sigmas {
		if w := float64(want[i]); !(math.Abs(got-w) <= 1e-6*math.Abs(w)) {
			t.Errorf("sigma %d: got %v, want %v", i, got, w)
		}
	}
}

// checkState returns the largest difference relative to want's largest magnitude. Differences up to rounding pass.
func checkState(t *testing.T, call int, got []float64, want []float32, tolerance, rounding float64) float64 {
	t.Helper()
	var worst, largest float64
	at := 0
	for i, w := range want {
		largest = max(largest, math.Abs(float64(w)))
		if d := math.Abs(got[i] - float64(w)); d > worst {
			worst, at = d, i
		}
	}
	if worst > max(tolerance*largest, rounding) {
		t.Errorf("latents after call %d: error %.2g, tolerance %.2g; worst at %d: got %g, want %g",
			call, worst/largest, tolerance, at, got[at], want[at])
	}
	return worst / largest
}

// pipelineRun is what an entry of pipelines/index.json says of the scheduler.
type pipelineRun struct {
	Scheduler     string          `json:"scheduler"`
	Config        json.RawMessage `json:"scheduler_config"`
	Timesteps     []float64       `json:"timesteps"`
	RandomTensors [][]int         `json:"random_tensors"`
	Args          struct {
		Steps    int     `json:"num_inference_steps"`
		Strength float64 `json:"strength"`
		Eta      float64 `json:"eta"`
	} `json:"args"`
}

func marshalled(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
