package train

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/unet"
	"limner/xla"
)

// tinyDiffusion is the loss on the goldens' model, and the parameters of its networks.
func tinyDiffusion(t *testing.T, withControlNet bool) (Diffusion, parity.Model) {
	t.Helper()
	return goldenDiffusion(t, "sd15-tiny", withControlNet)
}

// goldenDiffusion is tinyDiffusion for a family of models.
func goldenDiffusion(t *testing.T, family string, withControlNet bool) (Diffusion, parity.Model) {
	t.Helper()
	d := Diffusion{Networks: Networks{
		UNet:    parity.Config(t, unet.ParseConfig, family, "unet", "config.json"),
		Noise:   parity.Config(t, noise.ParseConfig, family, "scheduler", "scheduler_config.json"),
		Compute: dtypes.Float32,
	}}
	base := parity.Load(t, d.UNet.Tree(), family, "unet")
	model := parity.Model{Tree: base.Tree.Under("unet"), Values: base.Values.Under("unet")}
	if withControlNet {
		c := parity.Config(t, controlnet.ParseConfig, family, "controlnet", "config.json")
		d.ControlNet = &c
		control := parity.Load(t, c.Tree(), family, "controlnet")
		model.Tree = append(model.Tree, control.Tree.Under("controlnet")...)
		model.Values = nn.Merge(model.Values, control.Values.Under("controlnet"))
	}
	return d, model
}

// split parts a tree into the network of that name and the rest.
func split(tree nn.Tree, name string) (in, rest nn.Tree) {
	for _, spec := range tree {
		if strings.HasPrefix(spec.Key, name+".") {
			in = append(in, spec)
		} else {
			rest = append(rest, spec)
		}
	}
	return in, rest
}

// fileOrder turns values in memory's layout to that of a diffusers file.
func fileOrder(spec nn.Spec, data []float32) parity.Tensor {
	x := parity.Tensor{Data: make([]float32, len(data)), Shape: spec.FileShape()}
	switch spec.Kind {
	case nn.Dense:
		in, out := spec.Shape[0], spec.Shape[1]
		for i := range in {
			for o := range out {
				x.Data[o*in+i] = data[i*out+o]
			}
		}
	case nn.Kernel:
		px, in, out := spec.Shape[0]*spec.Shape[1], spec.Shape[2], spec.Shape[3]
		for p := range px {
			for i := range in {
				for o := range out {
					x.Data[(o*in+i)*px+p] = data[(p*in+i)*out+o]
				}
			}
		}
	default:
		copy(x.Data, data)
	}
	return x
}

func sampleOf(in []*Node) Sample {
	s := Sample{Latents: in[0], Noise: in[1], Timesteps: ConvertDType(in[2], dtypes.Int32), Text: in[3]}
	if len(in) > 4 {
		s.Cond = in[4]
	}
	return s
}

// lossAndGradients computes the loss, the gradients of the parameters of one network and their global norm.
func lossAndGradients(t *testing.T, d Diffusion, model parity.Model, trainable string, inputs []parity.Tensor) parity.Results {
	t.Helper()
	specs, _ := split(model.Tree, trainable)
	return parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		var params []*Node
		for _, spec := range specs {
			params = append(params, p.Param(spec.Key, spec.Kind, spec.Init, spec.FanIn, spec.Shape...))
		}
		out["loss"] = d.LossOf(p, p, sampleOf(in))
		grads := Gradient(out["loss"], params...)
		_, out["norm"] = DefaultOptimizer().clip(grads)
		for i, grad := range grads {
			out["grad."+specs[i].Key] = grad
		}
	})
}

func checkRelative(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s: got %.9g, want %.9g, tolerance %g relative", name, got, want, tolerance)
	}
}

func TestGoldenControlNetGradients(t *testing.T) {
	d, model := tinyDiffusion(t, true)
	var want struct {
		Loss []float64 `json:"loss"`
		Norm []float64 `json:"grad_norm_before_clip"`
	}
	golden.ReadJSON(t, &want, "train", "controlnet.json")
	batches := parity.Open(t, "train", "controlnet_batches.safetensors")
	grads := parity.Open(t, "train", "controlnet_grads.safetensors")
	got := lossAndGradients(t, d, model, "controlnet", batchInputs(batches, 0))
	checkRelative(t, "loss", float64(got["loss"].Data[0]), want.Loss[0], 1e-5)
	checkRelative(t, "gradient norm", float64(got["norm"].Data[0]), want.Norm[0], 2e-5)
	specs, _ := split(model.Tree, "controlnet")
	if len(specs) != len(grads.Keys()) {
		t.Errorf("%d parameters, %d gradients in the golden", len(specs), len(grads.Keys()))
	}
	for _, spec := range specs {
		x := fileOrder(spec, got["grad."+spec.Key].Data)
		parity.Check(t, spec.Key, x, grads.Get(strings.TrimPrefix(spec.Key, "controlnet.")), 2e-4)
	}
}

func batchInputs(f parity.File, i int) []parity.Tensor {
	prefix := fmt.Sprintf("batch%d.", i)
	return []parity.Tensor{f.Image(prefix + "latents"), f.Image(prefix + "noise"), f.Get(prefix + "timesteps"),
		f.Get("encoder_hidden_states"), f.Image(prefix + "cond_u8").Map(parity.FromCondition)}
}

func TestGoldenControlNetSteps(t *testing.T) {
	d, model := tinyDiffusion(t, true)
	batches, after := parity.Open(t, "train", "controlnet_batches.safetensors"), parity.Open(t, "train", "controlnet_after3.safetensors")
	checkSteps(t, d, model, "controlnet", goldenSteps{
		losses: []string{"train", "controlnet.json"}, batch: func(i int) []parity.Tensor { return batchInputs(batches, i) },
		after: func(spec nn.Spec) parity.Tensor { return after.Get(strings.TrimPrefix(spec.Key, "controlnet.")) },
	})
}

// goldenSteps are the losses and gradient norms of a few steps, and the parameters after them.
type goldenSteps struct {
	losses []string // JSON file
	batch  func(i int) []parity.Tensor
	after  func(nn.Spec) parity.Tensor
	first  func(nn.Spec) parity.Tensor // gradients of the first step; nil: not compared
}

// checkSteps trains what stands below a name of the model.
func checkSteps(t *testing.T, d Diffusion, model parity.Model, trainable string, g goldenSteps) {
	t.Helper()
	var want struct {
		Loss []float64 `json:"loss"`
		Norm []float64 `json:"grad_norm_before_clip"`
	}
	golden.ReadJSON(t, &want, g.losses...)
	o := Objective{Name: "golden", Compute: dtypes.Float32, Loss: func(trainable, frozen nn.Params, batch []*Node, _ Draws) *Node {
		return d.LossOf(trainable, frozen, sampleOf(batch))
	}}
	o.Trainable, o.Frozen = split(model.Tree, trainable)
	for i, x := range g.batch(0) {
		o.Batch = append(o.Batch, xla.Value{Name: fmt.Sprint("batch", i), Shape: shapes.Make(dtypes.Float32, x.Shape...)})
	}
	b := parity.Backend(t)
	s, err := newStepper(context.Background(), b, o, stepSettings{optimizer: DefaultOptimizer(), accumulation: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.plant(1); err != nil {
		t.Fatal(err)
	}
	if err := s.load(t.Context(), checkpoint.InMemory(model.Values), nil); err != nil {
		t.Fatal(err)
	}
	for i := range want.Loss {
		var arrays []*xla.Array
		for _, x := range g.batch(i) {
			a, err := xla.Put(b, x.Data, xla.Replicated, x.Shape...)
			if err != nil {
				t.Fatal(err)
			}
			arrays = append(arrays, a)
		}
		m, err := s.run(context.Background(), i+1, rates{learningRate: 1e-3}, func() ([]*xla.Array, error) { return arrays, nil })
		if err != nil {
			t.Fatal(err)
		}
		checkRelative(t, fmt.Sprintf("loss of step %d", i), float64(m.loss), want.Loss[i], 1e-5)
		checkRelative(t, fmt.Sprintf("gradient norm of step %d", i), float64(m.gradNorm), want.Norm[i], 2e-5)
		if i == 0 && g.first != nil {
			checkFirst(t, s, m.gradNorm, g)
		}
	}
	values, err := s.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var differences []float64
	for _, spec := range o.Trainable {
		x := fileOrder(spec, values["param."+spec.Key])
		for i, w := range g.after(spec).Data {
			differences = append(differences, math.Abs(float64(x.Data[i]-w)))
		}
	}
	sort.Float64s(differences)
	if worst := differences[len(differences)-1]; !(worst <= 1e-3) {
		t.Errorf("a parameter is off by %g after the steps, tolerance 1e-3", worst)
	}
	if most := differences[len(differences)*999/1000]; !(most <= 5e-6) {
		t.Errorf("99.9 %% of the parameters should be within 5e-6 after the steps, got %g", most)
	}
}

// checkFirst compares the gradients of the first step, as they stand in the first moments: times 1 - β₁, and clipped.
func checkFirst(t *testing.T, s *stepper, norm float32, g goldenSteps) {
	t.Helper()
	values, err := s.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	times := max(1, norm+1e-6) / float32(1-s.optimizer.AdamW.Beta1)
	for _, spec := range s.objective.Trainable {
		got := fileOrder(spec, values["exp_avg."+spec.Key]).Map(func(m float32) float32 { return m * times })
		parity.Check(t, spec.Key, got, g.first(spec), 5e-4)
	}
}

func TestGoldenUNetFinetune(t *testing.T) {
	d, model := tinyDiffusion(t, false)
	g := parity.Open(t, "train", "unet_finetune.safetensors")
	var names []string
	golden.ReadJSON(t, &names, "train", "unet_params.json")
	inputs := []parity.Tensor{g.Image("batch.latents"), g.Image("batch.noise"), g.Get("batch.timesteps"), g.Get("batch.ctx")}
	got := lossAndGradients(t, d, model, "unet", inputs)
	checkRelative(t, "loss", float64(got["loss"].Data[0]), float64(g.Get("loss").Data[0]), 1e-5)
	checkRelative(t, "gradient norm", float64(got["norm"].Data[0]), float64(g.Get("total_grad_norm").Data[0]), 2e-5)

	specs := map[string]nn.Spec{}
	for _, spec := range model.Tree {
		specs[strings.TrimPrefix(spec.Key, "unet.")] = spec
	}
	if len(specs) != len(names) {
		t.Errorf("%d parameters, %d in the golden", len(specs), len(names))
	}
	for _, key := range g.Keys() {
		if name, ok := strings.CutPrefix(key, "grad."); ok {
			spec := specs[name]
			parity.Check(t, name, fileOrder(spec, got["grad."+spec.Key].Data), g.Get(key), 2e-4)
		}
	}
	norms := g.Get("per_param_grad_norm").Data
	for i, name := range names {
		var squares float64
		for _, v := range got["grad.unet."+name].Data {
			squares += float64(v) * float64(v)
		}
		checkRelative(t, "gradient norm of "+name, math.Sqrt(squares), float64(norms[i]), 2e-4)
	}
}
