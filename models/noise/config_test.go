package noise_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"limner/models/noise"
)

func parse(t *testing.T, text string) noise.Config {
	t.Helper()
	c, err := noise.ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestForHandsOnWhatWasGiven(t *testing.T) {
	file := parse(t, `{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "steps_offset": 1, "sigma_max": 10}`)
	if c := file.For(noise.Euler); c.TimestepSpacing != "linspace" || c.StepsOffset != 1 ||
		c.BetaSchedule != "scaled_linear" || c.SigmaMax != 10 {
		t.Errorf("Euler from a file of PNDM: got %+v", c)
	}
	if c := file.For(noise.DDIM); c.TimestepSpacing != "leading" || !c.ClipSample || !c.SetAlphaToOne {
		t.Errorf("DDIM from a file of PNDM: got %+v", c)
	}
	// Even a value that is the file's own class's default holds for others once the file has it.
	file = parse(t, `{"_class_name": "PNDMScheduler", "timestep_spacing": "leading", "rescale_betas_zero_snr": true}`)
	if c := file.For(noise.Euler); c.TimestepSpacing != "leading" || !c.RescaleBetasZeroSNR {
		t.Errorf("Euler from a file with its spacing: got %+v", c)
	}
	if c := file.For(noise.LMS); c.RescaleBetasZeroSNR {
		t.Error("LMS has no rescale_betas_zero_snr, and took it")
	}
	// A config made in Go counts as given what differs from its defaults.
	c := noise.Default()
	c.PredictionType = noise.VPrediction
	if e := c.For(noise.Euler); e.PredictionType != noise.VPrediction || e.TimestepSpacing != "linspace" {
		t.Errorf("Euler from a config made in Go: got %+v", e)
	}
}

// What the classes of Flax write is read as PyTorch's, and written as such.
func TestFlaxClasses(t *testing.T) {
	for _, class := range []string{
		noise.DDIM, noise.DDPM, noise.PNDM, noise.LMS, noise.Euler, noise.DPMSolver,
	} {
		const fields = `"_diffusers_version": "0.2.4", "beta_schedule": "scaled_linear", "trained_betas": null}`
		want, got := parse(t, `{"_class_name": "`+class+`", `+fields),
			parse(t, `{"_class_name": "Flax`+class+`", `+fields)
		if got != want {
			t.Errorf("Flax%s: got %+v, want %+v", class, got, want)
		}
	}
}

// diffusers looks sigma_min and sigma_max up wherever it spaces noise levels, but for LMS as Karras et al.
func TestSigmaLimitsOfLMS(t *testing.T) {
	for class, wants := range map[string]struct{ karras, exponential float64 }{
		noise.LMS:   {157.407, 5}, // diffusers 0.42.1
		noise.Euler: {5, 5},
	} {
		c := noise.Defaults(class)
		c.SigmaMin, c.SigmaMax = 0.5, 5
		for want, set := range map[float64]func(*noise.Config){
			wants.karras:      func(c *noise.Config) { c.UseKarrasSigmas = true },
			wants.exponential: func(c *noise.Config) { c.UseExponentialSigmas = true },
		} {
			c := c
			set(&c)
			levels, err := c.Levels(4)
			if err != nil {
				t.Fatal(err)
			}
			if got := levels.Sigmas[0]; math.Abs(got-want) > 1e-3 {
				t.Errorf("%s: the largest noise level is %g, want %g", class, got, want)
			}
		}
	}
}

func TestConfigWrittenAndReadAgain(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "timestep_spacing": "linspace"}`,
		`{"_class_name": "UniPCMultistepScheduler", "disable_corrector": [0, 1], "trained_betas": [0.1, 0.2], "num_train_timesteps": 2}`,
		`{"_class_name": "EulerDiscreteScheduler", "solver_p": null, "skip_prk_steps": true, "base_shift": 0.5}`,
	} {
		c := parse(t, text)
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(parse(t, string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if string(raw) != string(again) {
			t.Errorf("%s: wrote %s, then %s", text, raw, again)
		}
		for _, field := range []string{"beta_schedule", "clip_sample"} {
			if strings.Contains(string(raw), field) {
				t.Errorf("%s: wrote %s, which chooses %s for other classes", text, raw, field)
			}
		}
	}
}

func TestParseConfigErrors(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                                "got a list, want an object",
		`null`:                              "got null, want an object",
		`{"_class_name": 3}`:                "field _class_name",
		`{"bta_start": 3}`:                  "field bta_start: unknown",
		`{"solver_p": "x"}`:                 `field solver_p: got "x", supported: null`,
		`{"num_train_timesteps": 10000000}`: "num_train_timesteps: got 10000000, want 1 to 10000",
		`{"trained_betas": [0.1]}`:          "trained_betas: got 1, want num_train_timesteps, 1000",
		`{"trained_betas": [2], "num_train_timesteps": 1}`: "trained_betas: got 2 at 0, want between 0 and 1",
		`{"beta_start": 0}`:            "beta_start, beta_end: got 0",
		`{"beta_schedule": "laplace"}`: `beta_schedule: got "laplace", supported: linear,`,
		`{"prediction_type": "sample", "_class_name": "PNDMScheduler"}`: `prediction_type: got "sample", supported: epsilon, v_prediction`,
		`{"timestep_spacing": "x"}`:                                     `timestep_spacing: got "x"`,
		`{"variance_type": "learned_range"}`:                            `variance_type: got "learned_range"`,
		`{"algorithm_type": "x", "solver_type": "y"}`:                   `solver_type: got "y"`,
		`{"solver_order": 4}`:                                           "solver_order: got 4, want 1 to 3",
		`{"steps_offset": -1}`:                                          "steps_offset: got -1",
		`{"use_karras_sigmas": true, "use_beta_sigmas": true}`:          "want one of them at most",
		`{"clip_sample_range": 0}`:                                      "clip_sample_range: got 0",
		`{"thresholding": true, "sample_max_value": 0}`: "sample_max_value, " +
			"dynamic_thresholding_ratio: got 0",
		`{"sigma_min": -1}`: "sigma_min, sigma_max: got -1",
		`{"original_inference_steps": 2000, "_class_name": "LCMScheduler"}`: "original_inference_steps: got 2000",
		`{"flow_shift": 0}`:          "flow_shift, shift: got 0",
		`{"final_sigmas_type": "x"}`: `final_sigmas_type: got "x"`,
		`{"interpolation_type": "x", "timestep_type": "continuous"}`: `interpolation_type: got "x"`,
		`{"time_shift_type": "x"}`:                                   `time_shift_type: got "x"`,
		`{"_class_name": "EDMEulerScheduler", "sigma_max": 80}`:      `_class_name: got "EDMEulerScheduler"`,
		`{"_class_name": "EDMDPMSolverMultistepScheduler"}`:          `_class_name: got "EDMDPMSolverMultistepScheduler"`,
		`{"_class_name": "FlaxKarrasVeScheduler"}`:                   `_class_name: got "FlaxKarrasVeScheduler"`,
	} {
		if _, err := noise.ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// Float division must not make one timestep more, before the first of the schedule.
func TestTrailingTimesteps(t *testing.T) {
	c := noise.Default()
	c.TimestepSpacing = "trailing"
	for n := 1; n <= 1000; n++ {
		timesteps, err := c.Timesteps(n)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range timesteps {
			if at < 0 || at > 999 || i > 0 && at >= timesteps[i-1] {
				t.Fatalf("%d steps: timestep %d is %d", n, i, at)
			}
		}
		if len(timesteps) != n {
			t.Fatalf("%d steps: got %d timesteps", n, len(timesteps))
		}
	}
}

func TestBetaSigmasAreSymmetric(t *testing.T) {
	c := noise.Defaults(noise.Euler)
	c.UseBetaSigmas, c.SigmaMin, c.SigmaMax = true, 1, 3
	levels, err := c.Levels(9)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		if mean := (levels.Sigmas[i] + levels.Sigmas[8-i]) / 2; math.Abs(mean-2) > 1e-6 {
			t.Errorf("sigmas %d and %d: mean %g, want 2", i, 8-i, mean)
		}
	}
}
