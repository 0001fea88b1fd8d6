// Package noise holds the noise schedule of a diffusion model: how much noise an image has at each timestep, which
// noise levels a sampler visits, and what the network predicts.
package noise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"limner/internal/plaintext"
	"limner/models/nn"
)

// Config is a scheduler_config.json: the schedule that a model was trained with, and how samplers step through it. It
// holds the fields of every supported scheduler class; For keeps those that a class reads.
type Config struct {
	ClassName string `json:"_class_name"`

	// The schedule.
	NumTrainTimesteps   int        `json:"num_train_timesteps"`
	BetaStart           float64    `json:"beta_start"`
	BetaEnd             float64    `json:"beta_end"`
	BetaSchedule        string     `json:"beta_schedule"`          // linear, scaled_linear, squaredcos_cap_v2, sigmoid
	TrainedBetas        *[]float64 `json:"trained_betas"`          // instead of beta_schedule; a pointer is comparable
	RescaleBetasZeroSNR bool       `json:"rescale_betas_zero_snr"` // ᾱ = 0 at the last timestep
	PredictionType      string     `json:"prediction_type"`        // epsilon, v_prediction, sample or flow_prediction

	// How a predicted x₀ is clipped.
	ClipSample               bool    `json:"clip_sample"`
	ClipSampleRange          float64 `json:"clip_sample_range"`
	Thresholding             bool    `json:"thresholding"`
	DynamicThresholdingRatio float64 `json:"dynamic_thresholding_ratio"`
	SampleMaxValue           float64 `json:"sample_max_value"`

	// Which timesteps are visited.
	TimestepSpacing        string  `json:"timestep_spacing"` // leading, linspace or trailing
	StepsOffset            int     `json:"steps_offset"`     // of spacing leading
	TimestepType           string  `json:"timestep_type"`    // discrete or continuous
	OriginalInferenceSteps int     `json:"original_inference_steps"`
	TimestepScaling        float64 `json:"timestep_scaling"`
	SkipPRKSteps           bool    `json:"skip_prk_steps"`
	SetAlphaToOne          bool    `json:"set_alpha_to_one"` // ᾱ after the last step: 1, else that of timestep 0

	// Which noise levels are visited.
	FinalSigmasType      string  `json:"final_sigmas_type"`  // zero or sigma_min
	InterpolationType    string  `json:"interpolation_type"` // linear or log_linear
	UseKarrasSigmas      bool    `json:"use_karras_sigmas"`
	UseExponentialSigmas bool    `json:"use_exponential_sigmas"`
	UseBetaSigmas        bool    `json:"use_beta_sigmas"`
	UseLuLambdas         bool    `json:"use_lu_lambdas"`
	UseFlowSigmas        bool    `json:"use_flow_sigmas"`
	SigmaMin             float64 `json:"sigma_min"` // 0: the schedule's
	SigmaMax             float64 `json:"sigma_max"` // 0: the schedule's
	LambdaMinClipped     float64 `json:"lambda_min_clipped"`

	// Flow matching.
	FlowShift          float64 `json:"flow_shift"`
	Shift              float64 `json:"shift"`
	UseDynamicShifting bool    `json:"use_dynamic_shifting"`
	TimeShiftType      string  `json:"time_shift_type"` // exponential or linear
	ShiftTerminal      float64 `json:"shift_terminal"`  // 0: off
	InvertSigmas       bool    `json:"invert_sigmas"`
	StochasticSampling bool    `json:"stochastic_sampling"`
	BaseShift          float64 `json:"base_shift"`         // μ at base_image_seq_len
	MaxShift           float64 `json:"max_shift"`          // μ at max_image_seq_len
	BaseImageSeqLen    int     `json:"base_image_seq_len"` // tokens of an image: patches of 2×2 latents
	MaxImageSeqLen     int     `json:"max_image_seq_len"`

	// Solvers.
	VarianceType     string `json:"variance_type"` // fixed_small, fixed_small_log, fixed_large or fixed_large_log
	SolverOrder      int    `json:"solver_order"`
	AlgorithmType    string `json:"algorithm_type"` // dpmsolver++, dpmsolver, sde-dpmsolver++ or sde-dpmsolver
	SolverType       string `json:"solver_type"`    // midpoint or heun, bh1 or bh2
	LowerOrderFinal  bool   `json:"lower_order_final"`
	EulerAtFinal     bool   `json:"euler_at_final"`
	PredictX0        bool   `json:"predict_x0"`
	DisableCorrector *[]int `json:"disable_corrector"` // steps; a pointer keeps Config comparable

	// Given are the fields that the file has. The others have the default of the class that reads them.
	Given Fields `json:"-"`
}

// Fields is a set of fields of a Config, a bit for each in the order of their declaration.
type Fields uint64

// The values of prediction_type: the network's output is ε, √ᾱ_t·ε - √(1-ᾱ_t)·x₀, x₀, or ε - x₀ in flow matching.
const (
	Epsilon        = "epsilon"
	VPrediction    = "v_prediction"
	Sample         = "sample"
	FlowPrediction = "flow_prediction"
)

// Default is the config of diffusers' DDIMScheduler without a file.
func Default() Config { return Defaults(DDIM) }

// The betas that Stable Diffusion models are trained with, and that some classes of diffusers have without a file.
const (
	stableDiffusionBetaStart = 0.00085
	stableDiffusionBetaEnd   = 0.012
)

// StableDiffusion is Default with the noise schedule that Stable Diffusion models are trained with.
func StableDiffusion() Config {
	c := Default()
	c.BetaStart, c.BetaEnd, c.BetaSchedule = stableDiffusionBetaStart, stableDiffusionBetaEnd, "scaled_linear"
	return c
}

// fixed are fields of which only these values are supported.
var fixed = nn.Fixed{"solver_p": {"null"}}

// elsewhere are the fields of classes that are not supported, and of pipelines: no supported class reads them.
var elsewhere = []string{
	"sigma_data", "s_noise", "rho", "clip_denoised", "snr_shift_scale", "sigma_schedule", "s_churn",
	"s_min", "s_max", "eta", "predictor_order", "corrector_order", "tau_func", "noise_sampler_seed",
	"set_alpha_to_zero", "tensor_format", "dtype",
}

// infinity is how Python writes the default of lambda_min_clipped, which is not valid JSON.
var infinity = regexp.MustCompile(`("lambda_min_clipped"\s*:\s*)-Infinity`)

// ParseConfig decodes and checks a scheduler_config.json. Fields that it leaves out have the defaults of its class.
func ParseConfig(raw []byte) (Config, error) {
	raw = infinity.ReplaceAll(raw, []byte("${1}null"))
	var fields map[string]json.RawMessage
	if err := plaintext.JSON(raw, &fields); err != nil {
		return Config{}, err
	}
	if fields == nil {
		return Config{}, errors.New("got null, want an object")
	}
	var class string
	if name, ok := fields["_class_name"]; ok {
		if err := plaintext.JSON(name, &class); err != nil {
			return Config{}, fmt.Errorf("field _class_name: %w", err)
		}
	}
	class, err := readClass(class)
	if err != nil {
		return Config{}, err
	}
	c := Defaults(class)
	if err := nn.DecodeConfig(raw, &c, fixed, elsewhere...); err != nil {
		return Config{}, err
	}
	c.ClassName = class
	for i, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if value, ok := fields[field.Tag.Get("json")]; ok && string(value) != "null" {
			c.Given |= 1 << i
		}
	}
	return c, c.Validate()
}

// MarshalJSON writes the fields that were given, and those that differ from their class's default; for the others the
// class that reads the file uses its own default.
func (c Config) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("{")
	values, defaults := reflect.ValueOf(c), reflect.ValueOf(Defaults(c.ClassName))
	for i, field := range reflect.VisibleFields(values.Type()) {
		name := field.Tag.Get("json")
		if name == "-" || name != "_class_name" && !c.has(i, values, defaults) {
			continue
		}
		value := values.Field(i).Interface()
		if math.IsInf(c.LambdaMinClipped, -1) && name == "lambda_min_clipped" {
			continue
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		if b.Len() > 1 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "%q:%s", name, raw)
	}
	b.WriteString("}")
	return b.Bytes(), nil
}

// has says whether field i was given, in a file or by changing the default.
func (c Config) has(i int, values, defaults reflect.Value) bool {
	return c.Given&(1<<i) != 0 || !reflect.DeepEqual(values.Field(i).Interface(), defaults.Field(i).Interface())
}

// For is the config as diffusers' from_config passes it to a class: the given fields that the class has, and the
// class's own defaults for all others.
func (c Config) For(class string) Config {
	out := Defaults(class)
	to, from, defaults := reflect.ValueOf(&out).Elem(), reflect.ValueOf(c), reflect.ValueOf(Defaults(c.ClassName))
	own := fieldsOf(class)
	for i, field := range reflect.VisibleFields(to.Type()) {
		if slices.Contains(own, field.Tag.Get("json")) && c.has(i, from, defaults) {
			to.Field(i).Set(from.Field(i))
			out.Given |= 1 << i
		}
	}
	return out
}

// WithZeroSNR is the config with rescale_betas_zero_snr. A class that has no such field, such as PNDM, becomes DDIM;
// nothing else changes.
func (c Config) WithZeroSNR() Config {
	if own := fieldsOf(c.ClassName); own != nil && !slices.Contains(own, zeroSNR) {
		c.ClassName = DDIM
	}
	c.RescaleBetasZeroSNR = true
	return c
}

// most bounds num_train_timesteps: a damaged file must not make the program ask for all memory.
const most = 10000

// Validate reports every field whose value is not supported.
func (c Config) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	among := func(name, got string, supported ...string) {
		if !slices.Contains(supported, got) {
			report("%s: got %q, supported: %s", name, got, strings.Join(supported, ", "))
		}
	}
	if c.NumTrainTimesteps < 1 || c.NumTrainTimesteps > most {
		report("num_train_timesteps: got %d, want 1 to %d", c.NumTrainTimesteps, most)
	}
	if c.TrainedBetas != nil {
		if n := len(*c.TrainedBetas); n != c.NumTrainTimesteps {
			report("trained_betas: got %d, want num_train_timesteps, %d", n, c.NumTrainTimesteps)
		}
		if i := slices.IndexFunc(*c.TrainedBetas, func(b float64) bool { return !(0 < b && b < 1) }); i >= 0 {
			report("trained_betas: got %g at %d, want between 0 and 1", (*c.TrainedBetas)[i], i)
		}
	} else if !(0 < c.BetaStart && c.BetaStart <= c.BetaEnd && c.BetaEnd < 1) {
		report("beta_start, beta_end: got %g and %g, want 0 < start ≤ end < 1", c.BetaStart, c.BetaEnd)
	}
	among("beta_schedule", c.BetaSchedule, "linear", "scaled_linear", squaredCosine, "sigmoid")
	among("prediction_type", c.PredictionType, c.predictions()...)
	among("timestep_spacing", c.TimestepSpacing, "leading", "linspace", "trailing")
	among("timestep_type", c.TimestepType, "discrete", "continuous")
	among("final_sigmas_type", c.FinalSigmasType, "zero", "sigma_min")
	among("interpolation_type", c.InterpolationType, "linear", "log_linear")
	among("time_shift_type", c.TimeShiftType, "exponential", "linear")
	among("variance_type", c.VarianceType, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
	among("algorithm_type", c.AlgorithmType, "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver", "deis")
	among("solver_type", c.SolverType, "midpoint", "heun", "bh1", "bh2", "logrho")
	if c.UseDynamicShifting && !(0 <= c.BaseImageSeqLen && c.BaseImageSeqLen < c.MaxImageSeqLen) {
		report("base_image_seq_len, max_image_seq_len: got %d and %d, want 0 ≤ base < max",
			c.BaseImageSeqLen, c.MaxImageSeqLen)
	}
	if c.SolverOrder < 1 || c.SolverOrder > 3 {
		report("solver_order: got %d, want 1 to 3", c.SolverOrder)
	}
	if c.StepsOffset < 0 || c.StepsOffset > most {
		report("steps_offset: got %d, want 0 to %d", c.StepsOffset, most)
	}
	if one := []bool{c.UseKarrasSigmas, c.UseExponentialSigmas, c.UseBetaSigmas}; count(one) > 1 {
		report("use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas: got %v, want one of them at most", one)
	}
	if c.ClipSample && !(c.ClipSampleRange > 0) {
		report("clip_sample_range: got %g, want more than 0", c.ClipSampleRange)
	}
	if c.Thresholding && !(c.SampleMaxValue > 0 && 0 <= c.DynamicThresholdingRatio && c.DynamicThresholdingRatio <= 1) {
		report("sample_max_value, dynamic_thresholding_ratio: got %g and %g, want more than 0, and 0 to 1",
			c.SampleMaxValue, c.DynamicThresholdingRatio)
	}
	if !(c.SigmaMin >= 0 && c.SigmaMax >= 0) {
		report("sigma_min, sigma_max: got %g and %g, want at least 0", c.SigmaMin, c.SigmaMax)
	}
	if c.OriginalInferenceSteps < 1 || c.OriginalInferenceSteps > most ||
		c.ClassName == LCM && c.OriginalInferenceSteps > c.NumTrainTimesteps {
		report("original_inference_steps: got %d, want 1 to num_train_timesteps, %d",
			c.OriginalInferenceSteps, c.NumTrainTimesteps)
	}
	if !(c.FlowShift > 0 && c.Shift > 0) {
		report("flow_shift, shift: got %g and %g, want more than 0", c.FlowShift, c.Shift)
	}
	return errors.Join(errs...)
}

func count(flags []bool) int {
	n := 0
	for _, flag := range flags {
		if flag {
			n++
		}
	}
	return n
}
