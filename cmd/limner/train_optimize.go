package main

import "limner/train"

// lossFlags are the flags of the diffusion loss.
type lossFlags struct {
	SNRGamma            float64 `name:"snr-gamma" default:"0" help:"Cap of the signal-to-noise ratio by which timesteps are weighted (min-SNR; 5 is usual); 0 weighs all alike."`
	RescaleBetasZeroSNR bool    `name:"rescale-betas-zero-snr" help:"Leave nothing of the image at the last timestep; with v_prediction or sample."`
	NoiseOffset         float64 `default:"0" help:"Size of one more draw for each image and channel in the noise, for darker and brighter images."`
	InputPerturbation   float64 `default:"0" help:"Size of noise that the input has and the target has not (0.1 is usual)."`
	LossType            string  `default:"l2" help:"l2, huber or smooth_l1."`
	HuberC              float64 `name:"huber-c" default:"0.1" help:"Difference from which huber and smooth_l1 grow linearly."`
	HuberSchedule       string  `default:"snr" help:"How that changes with the timestep: constant, exponential or snr."`
	timestepFlags
}

// timestepFlags are the flags that choose timesteps.
type timestepFlags struct {
	MinTimestep            int     `default:"0" help:"First timestep that is trained."`
	MaxTimestep            int     `placeholder:"N" help:"First timestep after those that are trained; without it, all of the model's are."`
	TimestepBiasStrategy   string  `default:"none" help:"Timesteps to train more often: none, earlier, later or range."`
	TimestepBiasMultiplier float64 `default:"1" help:"How many times as often."`
	TimestepBiasBegin      int     `default:"0" help:"Of range: its first timestep."`
	TimestepBiasEnd        int     `default:"1000" help:"Of range: the first timestep after it."`
	TimestepBiasPortion    float64 `default:"0.25" help:"Of earlier and later: the share of all timesteps."`
}

func (f lossFlags) apply(r *train.Recipe) {
	r.Loss = train.Loss{
		RescaleBetasZeroSNR: f.RescaleBetasZeroSNR, SNRGamma: f.SNRGamma,
		NoiseOffset: f.NoiseOffset, InputPerturbation: f.InputPerturbation,
		Type: f.LossType, HuberC: f.HuberC, HuberSchedule: f.HuberSchedule,
		Timesteps: train.Timesteps{
			Min: f.MinTimestep, Max: f.MaxTimestep, Bias: f.TimestepBiasStrategy, Multiplier: f.TimestepBiasMultiplier,
			Begin: f.TimestepBiasBegin, End: f.TimestepBiasEnd, Portion: f.TimestepBiasPortion,
		},
	}
}
