package loss

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/internal/parity"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/sd"
)

func predicting(prediction string) noise.Config {
	c := noise.StableDiffusion()
	c.PredictionType = prediction
	return c
}

func TestGoldenMinSNR(t *testing.T) {
	g := parity.Open(t, "train", "min_snr.safetensors")
	timesteps := g.Get("timesteps")
	near := func(name string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 1e-5*math.Abs(want)+1e-9) {
			t.Errorf("%s: got %.9g, want %.9g", name, got, want)
		}
	}
	for _, c := range []struct{ schedule, prediction string }{
		{"sd", noise.Epsilon}, {"sd", noise.VPrediction}, {"zsnr", noise.VPrediction},
	} {
		l := Loss{SNRGamma: 5, RescaleBetasZeroSNR: c.schedule == "zsnr"}
		schedule := l.Schedule(predicting(c.prediction))
		snr, weights := signalToNoise(schedule), l.snrWeights(schedule)
		weight := "weight_" + strings.TrimSuffix(c.prediction, "_prediction")
		for i, at := range timesteps.Data {
			near(fmt.Sprintf("%s SNR at %g", c.schedule, at), float64(snr[int(at)]),
				float64(g.Get(c.schedule + ".snr").Data[i]))
			near(fmt.Sprintf("%s %s at %g", c.schedule, weight, at), float64(weights[int(at)]),
				float64(g.Get(c.schedule + "." + weight).Data[i]))
		}
	}

	mse := g.Get("per_sample_mse")
	roots := mse.Map(func(v float32) float32 { return float32(math.Sqrt(float64(v))) })
	got := parity.Run(t, parity.Model{}, []parity.Tensor{roots, timesteps},
		func(_ nn.Params, in []*Node, out map[string]*Node) {
			prediction := BroadcastToDims(Reshape(in[0], -1, 1, 1, 1), len(mse.Data), 2, 3, 4)
			for _, p := range []string{noise.Epsilon, noise.VPrediction} {
				perImage := Loss{SNRGamma: 5}.perImage(predicting(p), prediction, ZerosLike(prediction),
					asTimesteps(in[1]), nil)
				out["loss_"+strings.TrimSuffix(p, "_prediction")] = ReduceAllMean(perImage)
			}
		})
	for name, x := range got {
		near(name, float64(x.Data[0]), float64(g.Get("sd." + name).Data[0]))
	}
}

// Weights go with images, whatever the batch and the width are: of a batch of 64 the columns of latents 64 wide must
// not be weighted.
func TestMinSNRWeighsImages(t *testing.T) {
	l := Loss{SNRGamma: 5}
	schedule := noise.StableDiffusion()
	weights := l.snrWeights(schedule)
	var inputs []parity.Tensor
	batches := []int{1, 2, 3, 4, 5, 64}
	const width, channels = 64, 4
	for _, batch := range batches {
		prediction := parity.Tensor{
			Data: make([]float32, batch*width*channels), Shape: []int{batch, 1, width, channels},
		}
		for i := range prediction.Data {
			prediction.Data[i] = float32(math.Sin(float64(i)))
		}
		timesteps := parity.Tensor{Data: make([]float32, batch), Shape: []int{batch}}
		for i := range timesteps.Data {
			timesteps.Data[i] = float32(15 * i)
		}
		inputs = append(inputs, prediction, timesteps)
	}
	got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
		for i, batch := range batches {
			out[fmt.Sprint(batch)] = l.perImage(schedule, in[2*i], ZerosLike(in[2*i]), asTimesteps(in[2*i+1]), nil)
		}
	})
	for i, batch := range batches {
		for image := range batch {
			var want float64
			for _, v := range inputs[2*i].Data[image*width*channels : (image+1)*width*channels] {
				want += float64(v) * float64(v) / (width * channels)
			}
			want *= float64(weights[15*image])
			parity.CheckNumber(t, fmt.Sprintf("image %d of %d", image, batch),
				float64(got[fmt.Sprint(batch)].Data[image]), want, 1e-5)
		}
	}
}

// Huber's losses against their formulas in float64, with masks of ones, of a half, and of nothing.
func TestRobustLosses(t *testing.T) {
	schedule := noise.StableDiffusion()
	differences := []float32{0, 1e-4, -0.03, 0.5, -2, 7, 0.2, 1}
	timesteps := []float32{0, 400, 999}
	n := len(differences)
	x := parity.Tensor{Shape: []int{len(timesteps), n, 1, 1}}
	masks := map[string]parity.Tensor{}
	for _, name := range []string{"ones", "half", "nothing"} {
		masks[name] = parity.Tensor{Data: make([]float32, len(timesteps)*n), Shape: x.Shape}
	}
	for i := range timesteps {
		x.Data = append(x.Data, differences...)
		for j := range n {
			masks["ones"].Data[i*n+j] = 1
			masks["half"].Data[i*n+j] = float32(j % 2)
		}
	}
	huber := func(d, c float64) float64 { return 2 * c * (math.Sqrt(d*d+c*c) - c) }
	alpha := schedule.AlphasCumprod()
	for _, c := range []struct {
		loss  Loss
		width func(timestep int) float64
		of    func(d, c float64) float64
	}{
		{Loss{}, func(int) float64 { return 0 }, func(d, _ float64) float64 { return d * d }},
		{Loss{Type: LossHuber, HuberC: 0.1, HuberSchedule: HuberConstant}, func(int) float64 { return 0.1 }, huber},
		{
			Loss{Type: LossHuber, HuberC: 0.1, HuberSchedule: HuberExponential},
			func(t int) float64 { return math.Exp(math.Log(0.1) * float64(t) / 1000) }, huber,
		},
		{Loss{Type: LossSmoothL1, HuberC: 0.2, HuberSchedule: HuberSNR}, func(t int) float64 {
			sigma := math.Sqrt((1 - float64(alpha[t])) / float64(alpha[t]))
			return 0.8/math.Pow(1+sigma, 2) + 0.2
		}, func(d, c float64) float64 { return huber(d, c) / c }},
	} {
		inputs := []parity.Tensor{
			x, {Data: timesteps, Shape: []int{len(timesteps)}}, masks["ones"], masks["half"], masks["nothing"],
		}
		got := parity.Run(t, parity.Model{}, inputs, func(_ nn.Params, in []*Node, out map[string]*Node) {
			zeros, at := ZerosLike(in[0]), asTimesteps(in[1])
			out["plain"] = c.loss.perImage(schedule, in[0], zeros, at, nil)
			for i, name := range []string{"ones", "half", "nothing"} {
				out[name] = c.loss.perImage(schedule, in[0], zeros, at, in[2+i])
			}
		})
		for i, at := range timesteps {
			var all, half float64
			for j, d := range differences {
				one := c.of(float64(d), c.width(int(at)))
				all += one / float64(n)
				half += one * float64(j%2) / float64(n/2)
			}
			for name, want := range map[string]float64{"plain": all, "ones": all, "half": half, "nothing": 0} {
				parity.CheckNumber(t, fmt.Sprintf("%+v, mask %s, timestep %g", c.loss, name, at),
					float64(got[name].Data[i]), want, 1e-5)
			}
		}
	}
}

func TestLossErrors(t *testing.T) {
	l := Loss{
		SNRGamma: -1, NoiseOffset: math.NaN(), InputPerturbation: math.Inf(1), Type: LossHuber, HuberSchedule: "cosine",
		Timesteps: Timesteps{Min: 5, Max: 5, Bias: BiasRange, Begin: 3, End: 2000},
	}
	err := errors.Join(l.Validate(), l.CheckModel(noise.StableDiffusion()))
	if err == nil {
		t.Fatal("nothing was found")
	}
	for _, want := range []string{
		"snr_gamma: got -1", "noise_offset: got NaN", "input_perturbation: got +Inf", "huber_c: got 0", `huber_schedule: got "cosine"`,
		"min_timestep, max_timestep: got 5 and 5, want 0 ≤ min < max",
		"timestep_bias_begin, timestep_bias_end: got 3 and 2000", "timestep_bias_multiplier: got 0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if err := (Loss{RescaleBetasZeroSNR: true}).CheckModel(noise.StableDiffusion()); err == nil ||
		!strings.Contains(err.Error(), "want v_prediction or sample") {
		t.Errorf("zero SNR with ε: got %v", err)
	}
	if err := DefaultLoss().CheckModel(noise.Defaults(noise.FlowMatch)); err == nil ||
		!strings.Contains(err.Error(), noise.FlowMatch) {
		t.Errorf("a schedule of flow matching: got %v", err)
	}
	for _, l := range []Loss{{}, DefaultLoss(), {RescaleBetasZeroSNR: true}} {
		if err := errors.Join(l.Validate(), l.CheckModel(predicting(noise.VPrediction))); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// An offset moves all pixels of an image's channel alike; a perturbation is in the input's noise only.
func TestNoiseOfASample(t *testing.T) {
	seed := parity.Tensor{Data: []float32{7}, Shape: []int{}}
	d := Diffusion{Networks: sd.Networks{Noise: noise.StableDiffusion()}}
	got := parity.Run(t, parity.Model{}, []parity.Tensor{seed}, func(_ nn.Params, in []*Node, out map[string]*Node) {
		seed := ConvertDType(in[0], dtypes.Uint64)
		draw, latents := Draws{Seed: seed, Step: seed}, Zeros(seed.Graph(), shapes.Make(dtypes.Float32, 2, 8, 8, 3))
		plain := d.Draw(draw, latents, nil)
		if plain.InputNoise != nil {
			t.Error("the input has noise of its own without a perturbation")
		}
		changed := d
		changed.Loss = Loss{NoiseOffset: 0.5, InputPerturbation: 0.25}
		s := changed.Draw(draw, latents, nil)
		out["offset"], out["perturbation"] = Sub(s.Noise, plain.Noise), Sub(s.InputNoise, s.Noise)
	})
	offset, perturbation := got["offset"].Data, got["perturbation"].Data
	var squares float64
	for i, v := range offset {
		if first := offset[i/(8*8*3)*(8*8*3)+i%3]; math.Abs(float64(v-first)) > 1e-6 {
			t.Fatalf("the offset of element %d is %g, that of its channel's first pixel %g", i, v, first)
		}
		squares += float64(perturbation[i]) * float64(perturbation[i]) / float64(len(offset))
	}
	if offset[0] == offset[1] || offset[0] == offset[8*8*3] {
		t.Error("channels or images have the same offset")
	}
	if size := math.Sqrt(squares); !(math.Abs(size-0.25) < 0.05) {
		t.Errorf("the perturbation has a size of %g, want 0.25", size)
	}
}
