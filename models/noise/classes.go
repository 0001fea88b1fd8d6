package noise

import (
	"fmt"
	"math"
	"slices"

	"limner/models/nn"
)

// The scheduler classes of diffusers that are supported, as _class_name has them.
const (
	DDPM           = "DDPMScheduler"
	DDIM           = "DDIMScheduler"
	PNDM           = "PNDMScheduler"
	LMS            = "LMSDiscreteScheduler"
	Euler          = "EulerDiscreteScheduler"
	EulerAncestral = "EulerAncestralDiscreteScheduler"
	Heun           = "HeunDiscreteScheduler"
	DPMSolver      = "DPMSolverMultistepScheduler"
	UniPC          = "UniPCMultistepScheduler"
	LCM            = "LCMScheduler"
	FlowMatch      = "FlowMatchEulerDiscreteScheduler"
)

// readOnly are the other classes of diffusers whose noise schedule is given by betas: models with such a file can be
// trained, and sampled with a supported scheduler. EDM, flow matching and consistency models add noise in other ways.
var readOnly = []string{
	"DDIMInverseScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler", "DEISMultistepScheduler",
	"DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler", "RePaintScheduler", "SASolverScheduler",
	dpmSDE, kdpm2, kdpm2Ancestral, tcd,
}

// The classes of readOnly whose defaults differ from DDIM's.
const (
	dpmSDE         = "DPMSolverSDEScheduler"
	kdpm2          = "KDPM2DiscreteScheduler"
	kdpm2Ancestral = "KDPM2AncestralDiscreteScheduler"
	tcd            = "TCDScheduler"
)

// zeroSNR is the field of zero terminal SNR, which some classes do not have.
const zeroSNR = "rescale_betas_zero_snr"

// readClass is the class that a file's _class_name means, "" if the file has none; for a class of Flax it is PyTorch's
// of the same name.
func readClass(name string) (string, error) {
	class := nn.PyTorchClass(name)
	if class == "" || fieldsOf(class) != nil || slices.Contains(readOnly, class) {
		return class, nil
	}
	const longest = 64 // no name is longer
	if len(name) > longest {
		name = name[:longest] + "…"
	}
	return "", fmt.Errorf("_class_name: got %q, whose noise schedule is not supported: "+
		"want one with betas, such as %s, %s or %s",
		name, DDIM, PNDM, Euler)
}

// fieldsOf lists the fields that a class reads: the arguments of its constructor, and sigma_min and sigma_max, which
// diffusers looks up wherever it spaces noise levels itself.
func fieldsOf(class string) []string {
	schedule := []string{
		"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
		"timestep_spacing", "steps_offset",
	}
	sigmas := []string{"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "sigma_min", "sigma_max"}
	threshold := []string{"thresholding", "dynamic_thresholding_ratio", "sample_max_value"}
	clip := []string{"clip_sample", "clip_sample_range"}
	dynamic := []string{"use_dynamic_shifting", "time_shift_type", "base_shift", "max_shift", "base_image_seq_len",
		"max_image_seq_len"} // pipelines look the last four up in any class's config
	switch class {
	case DDPM:
		return slices.Concat(schedule, clip, threshold, []string{zeroSNR, "variance_type"})
	case DDIM:
		return slices.Concat(schedule, clip, threshold, []string{zeroSNR, "set_alpha_to_one"})
	case PNDM:
		return slices.Concat(schedule, []string{"skip_prk_steps", "set_alpha_to_one"})
	case LMS:
		return slices.Concat(schedule, sigmas)
	case Euler:
		return slices.Concat(schedule, sigmas,
			[]string{zeroSNR, "interpolation_type", "timestep_type", "final_sigmas_type"})
	case EulerAncestral:
		return slices.Concat(schedule, []string{zeroSNR})
	case Heun:
		return slices.Concat(schedule, sigmas, clip)
	case DPMSolver:
		return slices.Concat(schedule, sigmas, threshold, dynamic, []string{
			zeroSNR, "solver_order", "algorithm_type", "solver_type", "lower_order_final", "euler_at_final",
			"use_lu_lambdas", "use_flow_sigmas", "flow_shift", "final_sigmas_type", "lambda_min_clipped",
			"variance_type",
		})
	case UniPC:
		return slices.Concat(schedule, sigmas, threshold, dynamic, []string{
			zeroSNR, "solver_order", "predict_x0", "solver_type", "lower_order_final", "disable_corrector",
			"use_flow_sigmas", "flow_shift", "final_sigmas_type", "shift_terminal",
		})
	case LCM:
		return slices.Concat(schedule, clip, threshold,
			[]string{zeroSNR, "set_alpha_to_one", "original_inference_steps", "timestep_scaling"})
	case FlowMatch:
		return slices.Concat(sigmas, dynamic, []string{
			"num_train_timesteps", "shift", "invert_sigmas", "shift_terminal",
			"stochastic_sampling",
		})
	}
	return nil
}

// Defaults are the values that a class of diffusers gives to the fields that a file leaves out. A class without
// clip_sample does not clip; other fields that it lacks, and classes that are not supported, have the defaults of
// DDIMScheduler.
func Defaults(class string) Config {
	c := Config{
		ClassName: class, NumTrainTimesteps: 1000, BetaStart: 0.0001, BetaEnd: 0.02, BetaSchedule: "linear",
		PredictionType: Epsilon, ClipSample: true, ClipSampleRange: 1,
		DynamicThresholdingRatio: 0.995, SampleMaxValue: 1, TimestepSpacing: "leading", TimestepType: "discrete",
		OriginalInferenceSteps: 50, TimestepScaling: 10, SetAlphaToOne: true, FinalSigmasType: "zero",
		InterpolationType: "linear", LambdaMinClipped: math.Inf(-1), FlowShift: 1, Shift: 1,
		TimeShiftType: "exponential", BaseShift: 0.5, MaxShift: 1.15, BaseImageSeqLen: 256, MaxImageSeqLen: 4096,
		VarianceType: "fixed_small", SolverOrder: 2, AlgorithmType: "dpmsolver++", SolverType: "midpoint",
		LowerOrderFinal: true, PredictX0: true,
	}
	switch class {
	case PNDM:
		c.SetAlphaToOne, c.ClipSample = false, false
	case LMS, Euler, EulerAncestral, DPMSolver:
		c.TimestepSpacing, c.ClipSample = "linspace", false
	case UniPC:
		c.TimestepSpacing, c.ClipSample, c.SolverType = "linspace", false, "bh2"
	case Heun, kdpm2, kdpm2Ancestral, dpmSDE:
		c.BetaStart, c.BetaEnd = stableDiffusionBetaStart, stableDiffusionBetaEnd
		c.TimestepSpacing, c.ClipSample = "linspace", false
	case LCM, tcd:
		c.BetaStart, c.BetaEnd = stableDiffusionBetaStart, stableDiffusionBetaEnd
		c.BetaSchedule, c.ClipSample = "scaled_linear", false
	case FlowMatch:
		c.ClipSample = false
	}
	return c
}

// predictions are the values of prediction_type that the class supports.
func (c Config) predictions() []string {
	switch c.ClassName {
	case PNDM, EulerAncestral:
		return []string{Epsilon, VPrediction}
	case DPMSolver, UniPC:
		return []string{Epsilon, VPrediction, Sample, FlowPrediction}
	}
	return []string{Epsilon, VPrediction, Sample}
}
