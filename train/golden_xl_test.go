package train

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/train/loss"
)

// xlNumbers are those of SDXL's goldens.
type xlNumbers struct {
	ControlNet struct {
		goldenNumbers
		Nonsquare float64 `json:"loss_batch2_initial"`
	} `json:"controlnet"`
	LoRA struct {
		goldenNumbers
		Rank      int     `json:"rank"`
		Alpha     float64 `json:"lora_alpha"`
		Nonsquare float64 `json:"loss_batch2_initial"`
	} `json:"lora"`
	Prior struct {
		Weight   float64 `json:"prior_loss_weight"`
		SNRGamma float64 `json:"snr_gamma"`
		Cases    map[string]struct {
			Loss float64 `json:"loss"`
			Norm float64 `json:"total_grad_norm"`
		} `json:"cases"`
	} `json:"dreambooth_prior"`
}

func readXL(t *testing.T) (numbers xlNumbers) {
	t.Helper()
	golden.ReadJSON(t, &numbers, "train_xl", "index.json")
	return numbers
}

// xlBatch is a batch of SDXL's goldens, for sampleXL, with the conditioning images or without.
func xlBatch(f parity.File, control bool) func(i int) []parity.Tensor {
	return func(i int) []parity.Tensor {
		at := fmt.Sprintf("batch%d.", i)
		batch := []parity.Tensor{
			f.Image(at + "latents"), f.Image(at + "noise"), f.Get(at + "timesteps"), f.Get("prompt_embeds"),
			f.Get("pooled"), f.Get(at + "time_ids"),
		}
		if control {
			batch = append(batch, f.Image(at+"cond_u8").Map(parity.FromCondition))
		}
		return batch
	}
}

func sampleXL(in []*Node) loss.Sample {
	s := sampleOf(in[:4])
	s.Pooled, s.TimeIDs = in[4], in[5]
	if len(in) > 6 {
		s.Cond = in[6]
	}
	return s
}

// Three steps of SDXL's ControlNet, of which the last is on a batch that is not square, and that batch by itself.
func TestGoldenControlNetStepsXL(t *testing.T) {
	d, model := goldenDiffusion(t, "sdxl-tiny", true)
	open := func(name string) parity.File { return parity.Open(t, "train_xl", name) }
	numbers := readXL(t).ControlNet
	checkSteps(t, d, model, "controlnet", goldenSteps{
		numbers: numbers.goldenNumbers, batch: xlBatch(open("controlnet_batches.safetensors"), true),
		sample: sampleXL, tolerance: 2e-4, first: named(open("controlnet_grads.safetensors"), "controlnet.", ""),
		after: named(open("controlnet_after3.safetensors"), "controlnet.", ""),
		alone: map[int]goldenStep{
			2: {numbers.Nonsquare, named(open("controlnet_grads_nonsquare.safetensors"), "controlnet.", "grad.")},
		},
	})
}

// The same of an SDXL LoRA.
func TestGoldenLoRAStepsXL(t *testing.T) {
	d, model := wholeDiffusion(t, "sdxl-tiny")
	p, err := diffusers.Open(golden.Path(t, "sdxl-tiny"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := p.OpenLoRA(golden.Path(t, "train_xl", "lora", "pytorch_lora_weights.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	numbers := readXL(t).LoRA
	addLoRA(t, &d, &model, file, &loss.LoRA{Rank: numbers.Rank, Alpha: numbers.Alpha, Targets: loss.AttentionTargets})
	g := parity.Open(t, "train_xl", "lora", "golden.safetensors")
	checkSteps(t, d, model, loss.LoRAPlace, goldenSteps{
		numbers: numbers.goldenNumbers, batch: xlBatch(parity.Open(t, "train_xl", "controlnet_batches.safetensors"),
			false), sample: sampleXL, tolerance: 5e-4,
		first: named(g, "lora.unet.", "grad."), after: named(g, "lora.unet.", "after3."),
		alone: map[int]goldenStep{2: {numbers.Nonsquare, named(g, "lora.unet.", "grad_batch2.")}},
	})
}

// Prior preservation without and with min-SNR, which weighs each image of the instance by its own timestep and leaves
// the class's alone. Half batches of one image are each image twice. The cases snr_script are what diffusers' script
// makes of one image, by the timesteps of both halves.
func TestGoldenPriorPreservation(t *testing.T) {
	numbers := readXL(t).Prior
	g := parity.Open(t, "train_xl", "dreambooth_prior.safetensors")
	model, program := finetuning(t)
	for name, want := range numbers.Cases {
		at, kind, _ := strings.Cut(name, "_")
		if !slices.Contains(finetuningLosses, kind) {
			continue
		}
		got := program([]parity.Tensor{
			g.Image(at + ".latents"), g.Image(at + ".noise"), g.Get(at + ".timesteps"),
			g.Get(at + ".encoder_hidden_states"),
		}, kind)
		parity.CheckNumber(t, name+": loss", float64(got["loss"].Data[0]), want.Loss, 1e-5)
		parity.CheckNumber(t, name+": gradient norm", float64(got["norm"].Data[0]), want.Norm, 2e-5)
		for _, spec := range model.Tree {
			if x := named(g, "unet.", name+".grad.")(spec); x != nil {
				parity.Check(t, name+": "+spec.Key, parity.FileOrder(spec, got["grad."+spec.Key].Data), *x, 2e-4)
			}
		}
	}
}

// finetuningLosses are the mean of a batch's losses, and those of prior preservation.
var finetuningLosses = []string{"mean", "plain", "snr"}

// finetuning computes one of finetuningLosses by the goldens' UNet, its gradients and their norm. One program serves
// all of them, and all goldens of one shape: it chooses the loss by factors, and each row of a smaller batch stands in
// it several times, which changes neither half's mean.
func finetuning(t *testing.T) (parity.Model, func(inputs []parity.Tensor, loss string) parity.Results) {
	t.Helper()
	mean, model := tinyDiffusion(t, false)
	numbers := readXL(t).Prior
	g := parity.Open(t, "train_xl", "dreambooth_prior.safetensors")
	rows := 0
	for name := range numbers.Cases {
		at, _, _ := strings.Cut(name, "_")
		rows = max(rows, g.Get(at + ".timesteps").Shape[0])
	}
	prior := mean
	prior.Batch, prior.PriorRows, prior.PriorWeight = rows, rows/2, numbers.Weight
	weighted := prior
	weighted.Loss.SNRGamma = numbers.SNRGamma
	specs, _ := split(model.Tree, "unet")
	build := func(p nn.Params, in []*Node, out map[string]*Node) {
		s, factors := sampleOf(in[:4]), in[4]
		prediction := mean.Predict(p, s)
		losses := Stack([]*Node{
			mean.LossBy(prediction, s), prior.LossBy(prediction, s), weighted.LossBy(prediction, s),
		}, 0)
		putGradients(p, specs, ReduceAllSum(Mul(losses, factors)), out)
	}
	programs := map[string]*parity.Program{}
	return model, func(inputs []parity.Tensor, loss string) parity.Results {
		t.Helper()
		factors := parity.Tensor{Data: make([]float32, len(finetuningLosses)), Shape: []int{len(finetuningLosses)}}
		factors.Data[slices.Index(finetuningLosses, loss)] = 1
		var shape string
		for i, x := range inputs {
			inputs[i] = repeatRows(x, rows/x.Shape[0])
			shape += fmt.Sprint(inputs[i].Shape)
		}
		inputs = append(inputs, factors)
		if programs[shape] == nil {
			programs[shape] = parity.Compile(t, parity.Backend(t), model.Tree, inputs, build)
		}
		return programs[shape].Run(model.Values, inputs...)
	}
}

// repeatRows has each row stand n times.
func repeatRows(x parity.Tensor, n int) parity.Tensor {
	size := len(x.Data) / x.Shape[0]
	out := parity.Tensor{Shape: append([]int{x.Shape[0] * n}, x.Shape[1:]...)}
	for row := range slices.Chunk(x.Data, size) {
		out.Data = append(out.Data, slices.Repeat(row, n)...)
	}
	return out
}
