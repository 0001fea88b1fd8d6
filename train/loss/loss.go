package loss

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/settings"
	"limner/models/noise"
)

// Loss is what can be chosen of the diffusion loss: flags of limner train, under the names of diffusers' scripts and,
// for Huber's, of kohya's sd-scripts. The zero value is the mean squared error of what the model predicts, at every
// timestep alike.
type Loss struct {
	SNRGamma            float64 `json:"snr_gamma" name:"snr-gamma" default:"0" help:"Cap of the signal-to-noise ratio by which timesteps are weighted (min-SNR; 5 is usual); 0 weighs all alike." resume:"same"`
	RescaleBetasZeroSNR bool    `json:"rescale_betas_zero_snr" name:"rescale-betas-zero-snr" help:"Leave nothing of the image at the last timestep; with v_prediction or sample." resume:"same"`
	NoiseOffset         float64 `json:"noise_offset" default:"0" help:"Size of one more draw for each image and channel in the noise, for darker and brighter images." resume:"same"`
	InputPerturbation   float64 `json:"input_perturbation" default:"0" help:"Size of noise that the input has and the target has not (0.1 is usual)." resume:"same"`
	Type                string  `json:"loss_type" name:"loss-type" default:"l2" help:"l2, huber or smooth_l1." resume:"same"` // "" is l2
	HuberC              float64 `json:"huber_c" name:"huber-c" default:"0.1" help:"Difference from which huber and smooth_l1 grow linearly." resume:"same"`
	HuberSchedule       string  `json:"huber_schedule" default:"snr" help:"How that changes with the timestep: constant, exponential or snr." resume:"same"`
	Timesteps
}

// The values of Loss.Type and HuberSchedule.
const (
	LossL2           = "l2"
	LossHuber        = "huber"
	LossSmoothL1     = "smooth_l1"
	HuberConstant    = "constant"
	HuberExponential = "exponential" // from 1 at the first timestep down to HuberC
	HuberSNR         = "snr"         // with the noise: HuberC where it drowns the image
)

// DefaultLoss holds the defaults of the scripts.
func DefaultLoss() Loss { return settings.Default[Loss]() }

// Schedule is a model's noise schedule as the loss needs it.
func (l Loss) Schedule(c noise.Config) noise.Config {
	c.RescaleBetasZeroSNR = c.RescaleBetasZeroSNR || l.RescaleBetasZeroSNR
	return c
}

// CheckModel reports every setting that does not fit a model with that noise schedule.
func (l Loss) CheckModel(model noise.Config) error {
	errs := []error{l.Timesteps.checkSteps(model.NumTrainTimesteps)}
	c := l.Schedule(model)
	if c.ClassName == noise.FlowMatch || c.PredictionType == noise.FlowPrediction {
		errs = append(errs,
			fmt.Errorf("the model's scheduler (%s, prediction_type %s) is one of flow matching, which is not "+
				"supported for training: want one with betas that predicts epsilon, v_prediction or sample",
				c.ClassName, c.PredictionType))
	}
	if c.RescaleBetasZeroSNR && c.PredictionType == noise.Epsilon {
		errs = append(errs, errors.New("rescale_betas_zero_snr: got prediction_type epsilon, "+
			"want v_prediction or sample: where the input is all noise, "+
			"predicting the noise says nothing of the image"))
	}
	return errors.Join(errs...)
}

// Validate reports every setting that is out of range with any model.
func (l Loss) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	among := func(name, got string, supported ...string) {
		if got != "" && !slices.Contains(supported, got) {
			bad("%s: got %q, supported: %s", name, got, strings.Join(supported, ", "))
		}
	}
	atLeast0 := func(name string, value float64) {
		if !(value >= 0) || math.IsInf(value, 0) {
			bad("%s: got %g, want at least 0", name, value)
		}
	}
	atLeast0("snr_gamma", l.SNRGamma)
	atLeast0("noise_offset", l.NoiseOffset)
	atLeast0("input_perturbation", l.InputPerturbation)
	among("loss_type", l.Type, LossL2, LossHuber, LossSmoothL1)
	among("huber_schedule", l.HuberSchedule, HuberConstant, HuberExponential, HuberSNR)
	if l.robust() && !(l.HuberC > 0 && l.HuberC <= 1) {
		bad("huber_c: got %g, want above 0 and at most 1", l.HuberC)
	}
	return errors.Join(append(errs, l.Timesteps.validate())...)
}

func (l Loss) robust() bool { return l.Type == LossHuber || l.Type == LossSmoothL1 }

// perImage is the loss of each image [batch], float32, by the weight of its timestep. prediction and target are [batch,
// height, width, channels]; mask is the weight of each pixel, float32 [batch, height, width, 1], or nil: an image's
// loss is then the mean of its pixels' so weighted.
func (l Loss) perImage(c noise.Config, prediction, target, timesteps, mask *Node) *Node {
	return l.weighted(c, l.unweighted(c, prediction, target, timesteps, mask), timesteps)
}

// weighted multiplies losses of images [batch] by the weights of their timesteps.
func (l Loss) weighted(c noise.Config, losses, timesteps *Node) *Node {
	if l.SNRGamma == 0 {
		return losses
	}
	return Mul(losses, perTimestep(l.snrWeights(c), timesteps))
}

// unweighted is perImage at every timestep alike.
func (l Loss) unweighted(c noise.Config, prediction, target, timesteps, mask *Node) *Node {
	loss := l.pointwise(c, Sub(ConvertDType(prediction, dtypes.Float32), target), timesteps)
	if mask == nil {
		return ReduceMean(loss, 1, 2, 3)
	}
	// A mask of zeros leaves its image without a say.
	weight := MaxScalar(ReduceSum(mask, 1, 2, 3), 1e-6)
	return Div(ReduceSum(Mul(ReduceMean(loss, 3), Squeeze(mask, 3)), 1, 2), weight)
}

// pointwise is the loss of each element of the difference between prediction and target. Huber's are the smooth ones of
// Charbonnier et al. 1997 with a width for each timestep, as sd-scripts and diffusers' scheduled_huber_loss_training
// have them: 2·(√(d²+c²) - c), times c for "huber".
func (l Loss) pointwise(c noise.Config, d, timesteps *Node) *Node {
	squares := Square(d)
	if !l.robust() {
		return squares
	}
	width := Reshape(perTimestep(l.huberWidths(c), timesteps), -1, 1, 1, 1)
	// √(d²+c²) - c = d²/(√(d²+c²) + c), without the cancellation where d is small.
	loss := MulScalar(Div(squares, Add(Sqrt(Add(squares, Square(width))), width)), 2)
	if l.Type == LossHuber {
		loss = Mul(loss, width)
	}
	return loss
}

// snrWeights are the weights of the timesteps by min-SNR-γ (Hang et al. 2023, arXiv:2303.09556): min(SNR, γ) for a
// network that predicts x₀, and what is the same for one that predicts ε or v.
func (l Loss) snrWeights(c noise.Config) []float32 {
	weights := make([]float32, c.NumTrainTimesteps)
	for t, snr := range signalToNoise(c) {
		weights[t] = min(snr, float32(l.SNRGamma))
		switch c.PredictionType {
		case noise.Epsilon:
			weights[t] /= snr
		case noise.VPrediction:
			weights[t] /= snr + 1
		}
	}
	return weights
}

// signalToNoise is ᾱ/(1-ᾱ) of each timestep, in float32 as diffusers' compute_snr.
func signalToNoise(c noise.Config) []float32 {
	snr := c.AlphasCumprod()
	for t, alpha := range snr {
		root := float32(math.Sqrt(float64(alpha))) / float32(math.Sqrt(float64(1-alpha)))
		snr[t] = root * root
	}
	return snr
}

// huberWidths is c of each timestep.
func (l Loss) huberWidths(c noise.Config) []float32 {
	widths := make([]float32, c.NumTrainTimesteps)
	for t, alpha := range c.AlphasCumprod() {
		width := l.HuberC
		switch l.HuberSchedule {
		case HuberExponential:
			width = math.Pow(l.HuberC, float64(t)/float64(c.NumTrainTimesteps))
		case HuberSNR:
			sigma := math.Sqrt((1 - float64(alpha)) / float64(alpha))
			width = (1-l.HuberC)/((1+sigma)*(1+sigma)) + l.HuberC
		}
		widths[t] = float32(width)
	}
	return widths
}

// perTimestep picks each image's value out of one for each timestep: [batch].
func perTimestep(values []float32, timesteps *Node) *Node {
	return Gather(Const(timesteps.Graph(), values), InsertAxes(timesteps, -1))
}
