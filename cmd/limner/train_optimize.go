package main

import (
	"fmt"

	"limner/train"
	"limner/train/loss"
	"limner/train/optim"
)

// optimizeFlags are the flags of how every training makes its steps.
type optimizeFlags struct {
	GradientAccumulationSteps int     `default:"1" help:"Batches of an optimizer step, one after another: their gradients are those of one large batch."`
	MaxTrainImages            int     `placeholder:"N" help:"Images to see, rounded up to whole steps, instead of --max_train_steps or --num_train_epochs."`
	ScaleLR                   bool    `name:"scale-lr" help:"Multiply the learning rate by the images of an optimizer step, over all devices."`
	Optimizer                 string  `default:"adamw" help:"adamw, lion or adafactor."`
	AdamMomentsDType          string  `name:"adam-moments-dtype" default:"f32" help:"How AdamW and Lion keep their moments: f32, bf16 (rounded by chance) or 8bit (in blocks of 256)."`
	Use8bitAdam               bool    `name:"use-8bit-adam" help:"The same as --adam_moments_dtype 8bit."`
	FSDP                      bool    `name:"fsdp" help:"Divide the parameters over the devices; moments and averages are in any case."`
	GradientCheckpointing     bool    `help:"Keep only the outputs of blocks for the gradient and compute the rest once more: less memory, a third more time. A run whose step does not fit the devices otherwise does so by itself."`
	MaxDeviceMemory           float64 `placeholder:"GB" help:"GB that the step may take of each device, such as a GPU that others use; without it, all that there are."`
	lionFlags
	adafactorFlags
}

// lionFlags are the settings of Lion.
type lionFlags struct {
	LionBeta1 float64 `name:"lion-beta1" default:"0.9" help:"Decay of Lion's direction; give it a third to a tenth of AdamW's learning rate."`
	LionBeta2 float64 `name:"lion-beta2" default:"0.99" help:"Decay of Lion's moment."`
}

// adafactorFlags are the settings of Adafactor.
type adafactorFlags struct {
	AdafactorEps1           float64 `name:"adafactor-eps1" default:"1e-30" help:"Added to the squares of Adafactor's gradients."`
	AdafactorEps2           float64 `name:"adafactor-eps2" default:"1e-3" help:"Least size of a parameter, for --adafactor_scale_parameter."`
	AdafactorClipThreshold  float64 `default:"1" help:"Root mean square that Adafactor's updates are scaled down to."`
	AdafactorDecayRate      float64 `default:"-0.8" help:"Adafactor's second moment decays by 1 - n^this at step n."`
	AdafactorScaleParameter bool    `help:"Take Adafactor's learning rate as relative to the size of each parameter."`
	AdafactorRelativeStep   bool    `help:"Let Adafactor's learning rate be min(0.01, 1/√step), whatever --learning_rate says."`
}

func (f optimizeFlags) apply(o *train.Options) {
	o.Accumulation, o.MaxTrainImages, o.FSDP = f.GradientAccumulationSteps, f.MaxTrainImages, f.FSDP
	o.GradientCheckpointing, o.MaxDeviceMemory = f.GradientCheckpointing, int64(f.MaxDeviceMemory*1e9)
	if f.ScaleLR {
		o.LearningRate *= float64(o.Batch * o.Accumulation)
	}
	o.Optimizer.Name, o.Optimizer.Moments = f.Optimizer, f.AdamMomentsDType
	if f.Use8bitAdam {
		o.Optimizer.Moments = optim.Moments8Bit
	}
	o.Optimizer.Lion = optim.Lion{Beta1: f.LionBeta1, Beta2: f.LionBeta2}
	o.Optimizer.Adafactor = optim.Adafactor{
		Epsilon1: f.AdafactorEps1, Epsilon2: f.AdafactorEps2, ClipThreshold: f.AdafactorClipThreshold,
		DecayRate: f.AdafactorDecayRate, ScaleParameter: f.AdafactorScaleParameter, RelativeStep: f.AdafactorRelativeStep,
	}
}

// lossFlags are the flags of the diffusion loss.
type lossFlags struct {
	SNRGamma            float64 `name:"snr-gamma" default:"0" help:"Cap of the signal-to-noise ratio by which timesteps are weighted (min-SNR; 5 is usual); 0 weighs all alike."`
	RescaleBetasZeroSNR bool    `name:"rescale-betas-zero-snr" help:"Leave nothing of the image at the last timestep; with v_prediction or sample."`
	NoiseOffset         float64 `default:"0" help:"Size of one more draw for each image and channel in the noise, for darker and brighter images."`
	InputPerturbation   float64 `default:"0" help:"Size of noise that the input has and the target has not (0.1 is usual)."`
	LossType            string  `default:"${loss_type}" help:"l2, huber or smooth_l1."`
	HuberC              float64 `name:"huber-c" default:"${huber_c}" help:"Difference from which huber and smooth_l1 grow linearly."`
	HuberSchedule       string  `default:"${huber_schedule}" help:"How that changes with the timestep: constant, exponential or snr."`
	timestepFlags
}

// timestepFlags are the flags that choose timesteps.
type timestepFlags struct {
	MinTimestep            int     `default:"0" help:"First timestep that is trained."`
	MaxTimestep            int     `placeholder:"N" help:"First timestep after those that are trained; without it, all of the model's are."`
	TimestepBiasStrategy   string  `default:"${bias_strategy}" help:"Timesteps to train more often: none, earlier, later or range."`
	TimestepBiasMultiplier float64 `default:"${bias_multiplier}" help:"How many times as often."`
	TimestepBiasBegin      int     `default:"0" help:"Of range: its first timestep."`
	TimestepBiasEnd        int     `default:"${bias_end}" help:"Of range: the first timestep after it."`
	TimestepBiasPortion    float64 `default:"${bias_portion}" help:"Of earlier and later: the share of all timesteps."`
}

// lossDefaults are the values of the flags' defaults, which package train holds.
func lossDefaults() map[string]string {
	l := loss.DefaultLoss()
	return map[string]string{
		"loss_type": l.Type, "huber_c": fmt.Sprint(l.HuberC), "huber_schedule": l.HuberSchedule,
		"bias_strategy": l.Bias, "bias_multiplier": fmt.Sprint(l.Multiplier), "bias_end": fmt.Sprint(l.End), "bias_portion": fmt.Sprint(l.Portion),
	}
}

func (f lossFlags) apply(r *train.Recipe) {
	r.Loss = loss.Loss{
		RescaleBetasZeroSNR: f.RescaleBetasZeroSNR, SNRGamma: f.SNRGamma,
		NoiseOffset: f.NoiseOffset, InputPerturbation: f.InputPerturbation,
		Type: f.LossType, HuberC: f.HuberC, HuberSchedule: f.HuberSchedule,
		Timesteps: loss.Timesteps{
			Min: f.MinTimestep, Max: f.MaxTimestep, Bias: f.TimestepBiasStrategy, Multiplier: f.TimestepBiasMultiplier,
			Begin: f.TimestepBiasBegin, End: f.TimestepBiasEnd, Portion: f.TimestepBiasPortion,
		},
	}
}
