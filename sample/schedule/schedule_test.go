package schedule

import (
	"math"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/noise"
)

func mustNew(t *testing.T, name string, c noise.Config, steps int, o Options) Schedule {
	t.Helper()
	p, err := New(name, c, steps, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sd15 is the scheduler_config.json of Stable Diffusion 1.5.
func sd15(t *testing.T) noise.Config {
	t.Helper()
	c, err := noise.ParseConfig([]byte(`{
		"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_start": 0.00085, "beta_end": 0.012,
		"beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "trained_betas": null, "skip_prk_steps": true,
		"set_alpha_to_one": false, "steps_offset": 1, "clip_sample": false
	}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func timesteps(p Schedule) []float64 {
	var out []float64
	for _, c := range p.Calls {
		out = append(out, c.Timestep)
	}
	return out
}

// Fields that a file does not hold have the defaults of the class that reads it: from one file, some classes run
// "leading" and others "linspace".
func TestFromAFileOfAnotherClass(t *testing.T) {
	leading := []float64{801, 601, 401, 201, 1}
	for name, want := range map[string][]float64{
		"ddim":            leading,
		"ddpm":            leading,
		"":                {801, 601, 601, 401, 201, 1},
		"lcm":             {999, 799, 599, 399, 199},
		"euler":           {999, 749.25, 499.5, 249.75, 0},
		"euler_a":         {999, 749.25, 499.5, 249.75, 0},
		"lms":             {999, 749.25, 499.5, 249.75, 0},
		"heun":            {999, 749.25, 749.25, 499.5, 499.5, 249.75, 249.75, 0, 0},
		"dpm++_2m":        {999, 799, 599, 400, 200},
		"dpm++_2m_karras": {999, 786, 427, 59, 0},
		"unipc":           {999, 799, 599, 400, 200},
	} {
		if got := timesteps(mustNew(t, name, sd15(t), 5, DefaultOptions())); !slices.Equal(got, want) {
			t.Errorf("%q: got timesteps %v, want %v", name, got, want)
		}
	}
}

// Goldens: diffusers 0.42.1. The pipelines' runs show where image to image begins, and how often noise is drawn.
func TestPipelines(t *testing.T) {
	var index struct {
		Runs map[string]pipelineRun `json:"runs"`
	}
	golden.ReadJSON(t, &index, "pipelines", "index.json")
	for name, r := range index.Runs {
		c, err := noise.ParseConfig(r.Config)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o := DefaultOptions()
		o.Eta = r.Args.Eta
		if r.Args.Strength > 0 {
			o.Strength = r.Args.Strength
		}
		p := mustNew(t, r.Scheduler, c, r.Args.Steps, o)
		for i, want := range r.Timesteps {
			if i >= len(p.Calls) || float32(p.Calls[i].Timestep) != float32(want) || len(p.Calls) != len(r.Timesteps) {
				t.Errorf("%s: got timesteps %v, want %v", name, timesteps(p), r.Timesteps)
				break
			}
		}
		draws := 0
		for _, call := range p.Calls {
			if call.Noise {
				draws++
			}
		}
		fromNoise := strings.HasPrefix(name, "txt2img") || strings.HasPrefix(name, "controlnet")
		if want := len(r.RandomTensors); fromNoise && draws != want {
			t.Errorf("%s: draws noise %d times, want %d", name, draws, want)
		}
	}
}

// Goldens: diffusers 0.42.1. A call's Signal and Sigma noise an image to its timestep.
func TestSignalAndSigma(t *testing.T) {
	c := noise.Defaults("")
	c.BetaStart, c.BetaEnd, c.BetaSchedule = 0.00085, 0.012, "scaled_linear"
	seen := 0
	for _, s := range schedulers() {
		if s.set != nil || s.class == noise.FlowMatch {
			continue
		}
		g := parity.Open(t, "schedulers", s.class+".safetensors")
		p := mustNew(t, s.class, c, 20, DefaultOptions())
		x0, epsilon, want := g.Get("add_noise/x0").Data, g.Get("add_noise/noise").Data, g.Get("add_noise/out").Data
		at := g.Get("add_noise/timesteps").Data
		size := len(x0) / len(at)
		for row, t0 := range at {
			i := slices.IndexFunc(p.Calls, func(c Call) bool { return float32(c.Timestep) == t0 })
			if i < 0 {
				t.Errorf("%s: no call at timestep %v", s.class, t0)
				continue
			}
			seen++
			for j := row * size; j < (row+1)*size; j++ {
				got := p.Calls[i].Signal*float64(x0[j]) + p.Calls[i].Sigma*float64(epsilon[j])
				if math.Abs(got-float64(want[j])) > 1e-6*max(1, p.Calls[i].Sigma) {
					t.Errorf("%s: noised to %v: got %g, want %g", s.class, t0, got, want[j])
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no timestep was compared")
	}
}

func TestNewErrors(t *testing.T) {
	zero := sd15(t)
	zero.RescaleBetasZeroSNR = true
	offset := sd15(t)
	offset.StepsOffset = 2
	strength := DefaultOptions()
	strength.Strength = 0.1
	const both = "rescale_betas_zero_snr goes with prediction_type v_prediction or sample, not epsilon"
	for _, c := range []struct {
		name    string
		config  noise.Config
		steps   int
		options Options
		want    string
	}{
		{"eular", sd15(t), 5, DefaultOptions(), `scheduler "eular": unknown; the nearest are euler,`},
		{
			"", func() noise.Config { c := sd15(t); c.ClassName = "TCDScheduler"; return c }(), 5, DefaultOptions(),
			"name one by --scheduler NAME",
		},
		{"ddim", sd15(t), 0, DefaultOptions(), "num_inference_steps 0: want 1 to 1000"},
		{"ddim", sd15(t), 1001, DefaultOptions(), "want 1 to 1000"},
		{"ddim", sd15(t), 1000, DefaultOptions(), "use 999"},
		{"ddim", offset, 500, DefaultOptions(), "use 499"},
		{"dpm++_2m", sd15(t), 1000, DefaultOptions(), "use 999"},
		{"lcm", sd15(t), 51, DefaultOptions(), "want 1 to 50"},
		{"pndm", func() noise.Config { c := sd15(t); c.SkipPRKSteps = false; return c }(), 5, DefaultOptions(), ""},
		{"ddim", zero, 5, DefaultOptions(), both}, {"ddpm", zero, 5, DefaultOptions(), both},
		{"euler", zero, 5, DefaultOptions(), both}, {"euler_a", zero, 5, DefaultOptions(), both},
		{"dpm++_2m", zero, 5, DefaultOptions(), both}, {"unipc", zero, 5, DefaultOptions(), both},
		{"lcm", zero, 5, DefaultOptions(), both},
		{"pndm", zero, 5, DefaultOptions(), ""}, {"lms", zero, 5, DefaultOptions(), ""}, // have no such field
		{"heun", zero, 5, DefaultOptions(), ""},
		{"ddim", sd15(t), 5, strength, "strength 0.1 leaves none of 5 steps: use at least 10"},
		{"ddim", sd15(t), 5, Options{}, "strength 0: want more than 0"},
		{
			"flow_match_euler", func() noise.Config { c := sd15(t); c.UseDynamicShifting = true; return c }(), 5,
			DefaultOptions(), "needs mu",
		},
	} {
		_, err := New(c.name, c.config, c.steps, c.options)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %d steps: got %v, want %q", c.name, c.steps, err, c.want)
		}
	}
}

// Every name has a schedule of 1 to 50 steps, and on to the end of the trajectory from anywhere in it. TestStepsDone
// counts as diffusers' progress bars do, also where the network is called more often than there are steps.
func TestStepsDone(t *testing.T) {
	half := DefaultOptions()
	half.Strength = 0.5
	for _, c := range []struct {
		name    string
		prk     bool
		options Options
		calls   int
		want    []int // after the first calls
	}{
		{"pndm", false, DefaultOptions(), 21, []int{0, 0, 1, 2}},
		{"pndm", true, DefaultOptions(), 29, []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
		{"pndm", false, half, 11, []int{0, 0, 1}},
		{"heun", false, DefaultOptions(), 39, []int{0, 0, 1, 1, 2}},
		{"euler", false, DefaultOptions(), 20, []int{0, 1, 2}},
	} {
		config := sd15(t)
		config.SkipPRKSteps = !c.prk
		s, err := New(c.name, config, 20, c.options)
		if err != nil {
			t.Fatal(err)
		}
		steps := int(20 * c.options.Strength)
		if len(s.Calls) != c.calls || s.Steps != steps || s.StepsDone(len(s.Calls)) != steps {
			t.Errorf("%s: got %d steps by %d calls, %d of them done at the end, want %d by %d",
				c.name, s.Steps, len(s.Calls), s.StepsDone(len(s.Calls)), steps, c.calls)
		}
		for calls, want := range c.want {
			if got := s.StepsDone(calls); got != want {
				t.Errorf("%s: %d steps done after %d calls, want %d", c.name, got, calls, want)
			}
		}
	}
}

// TestDynamicShifting: μ is calculate_shift of diffusers 0.42.1's pipelines for 4096 and 1024 tokens.
func TestDynamicShifting(t *testing.T) {
	c := sd15(t)
	c.UseDynamicShifting = true
	for latents, want := range map[[2]int]float64{{128, 128}: 1.15, {64, 64}: 0.63} {
		o := DefaultOptions()
		o.LatentSize = latents
		got, err := New("flow_match_euler", c, 4, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Mu = &want
		by, err := New("flow_match_euler", c, 4, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Sigmas {
			if math.Abs(got.Sigmas[i]-by.Sigmas[i]) > 1e-6 {
				t.Errorf("%v: sigma %d is %g, want %g", latents, i, got.Sigmas[i], by.Sigmas[i])
			}
		}
	}
}

func TestEveryName(t *testing.T) {
	for _, name := range Names() {
		for _, steps := range []int{1, 2, 3, 20, 50} {
			for _, strength := range []float64{1, 0.7, 0.34} {
				if int(float64(steps)*strength) == 0 {
					continue
				}
				o := DefaultOptions()
				o.Strength = strength
				p := mustNew(t, name, sd15(t), steps, o)
				x := make([]float64, 8)
				for i := range x {
					x[i] = p.InitNoiseSigma * math.Sin(float64(i))
				}
				draw := func(i int) []float64 { return []float64{1, -1, 0.5, 0, 2, 0.3, -0.2, -1.1} }
				for i, v := range p.Run(x, goldenNetwork, draw, nil) {
					if math.IsNaN(v) || math.Abs(v) > 1e3 {
						t.Errorf("%s, %d steps, strength %g: latent %d is %g", name, steps, strength, i, v)
						break
					}
				}
			}
		}
	}
}

// FuzzNew: no file, name or number of steps makes New panic.
func FuzzNew(f *testing.F) {
	f.Add([]byte(`{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "skip_prk_steps": true}`),
		"euler", 5, 0.6)
	f.Add([]byte(`{"use_karras_sigmas": true, "lambda_min_clipped": -Infinity, "solver_order": 3}`), "dpm++", 20, 1.0)
	f.Add([]byte(`{"trained_betas": [0.1, 0.2], "num_train_timesteps": 2, "disable_corrector": [0]}`), "unipc", 2, 1.0)
	f.Add([]byte(`{"timestep_spacing": "trailing", "rescale_betas_zero_snr": true, "prediction_type": "v_prediction"}`),
		"ddim", 7, 0.5)
	f.Add([]byte(`{"use_flow_sigmas": true, "prediction_type": "flow_prediction", "flow_shift": 3}`), "unipc", 1, 1.0)
	f.Add([]byte(`{"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}`),
		"dpm++", 9, 1.0)
	for _, s := range schedulers() {
		f.Add([]byte(`{"use_beta_sigmas": true, "num_train_timesteps": 20, "original_inference_steps": 10}`),
			s.name, 3, 0.9)
	}
	f.Fuzz(func(t *testing.T, raw []byte, name string, steps int, strength float64) {
		c, err := noise.ParseConfig(raw)
		if err != nil {
			return
		}
		o := DefaultOptions()
		o.Strength, o.Eta, o.SChurn = strength, 0.5, 1
		p, err := New(name, c, steps, o)
		if err != nil {
			return
		}
		if len(p.Calls) == 0 {
			t.Error("a schedule without calls")
		}
		again, err := noise.ParseConfig(marshalled(t, c))
		if err != nil {
			t.Fatalf("written and read again: %v", err)
		}
		if q, err := New(name, again, steps, o); err != nil || !slices.Equal(q.Calls, p.Calls) {
			t.Errorf("the config written and read again gives another schedule (%v)", err)
		}
	})
}
