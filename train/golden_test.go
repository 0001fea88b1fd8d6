package train

import (
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
	"limner/models/sd"
	"limner/models/unet"
	"limner/train/loss"
	"limner/train/optim"
	"limner/train/step"
	"limner/xla"
	"limner/xla/program"
)

// tinyDiffusion is the loss on the goldens' model, and the parameters of its networks.
func tinyDiffusion(t *testing.T, withControlNet bool) (loss.Diffusion, parity.Model) {
	t.Helper()
	return goldenDiffusion(t, "sd15-tiny", withControlNet)
}

// goldenDiffusion is tinyDiffusion for a family of models.
func goldenDiffusion(t *testing.T, family string, withControlNet bool) (loss.Diffusion, parity.Model) {
	t.Helper()
	d := loss.Diffusion{Compute: dtypes.Float32, Networks: sd.Networks{
		UNet:  parity.Config(t, unet.ParseConfig, family, "unet", "config.json"),
		Noise: parity.Config(t, noise.ParseConfig, family, "scheduler", "scheduler_config.json"),
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

func sampleOf(in []*Node) loss.Sample {
	s := loss.Sample{Latents: in[0], Noise: in[1], Timesteps: ConvertDType(in[2], dtypes.Int32), Text: in[3]}
	if len(in) > 4 {
		s.Cond = in[4]
	}
	return s
}

// lossAndGradients computes the loss, the gradients of the parameters of one network and their global norm.
func lossAndGradients(t *testing.T, d loss.Diffusion, model parity.Model, trainable string,
	inputs []parity.Tensor) parity.Results {
	t.Helper()
	specs, _ := split(model.Tree, trainable)
	return parity.Run(t, model, inputs, func(p nn.Params, in []*Node, out map[string]*Node) {
		putGradients(p, specs, d.LossOf(p, p, sampleOf(in)), out)
	})
}

// putGradients gives out a loss, its gradients by parameters, and their global norm.
func putGradients(p nn.Params, specs nn.Tree, loss *Node, out map[string]*Node) {
	var params []*Node
	for _, spec := range specs {
		params = append(params, p.Param(spec.Key, spec.Kind, spec.Init, spec.FanIn, spec.Shape...))
	}
	grads := Gradient(loss, params...)
	out["loss"] = loss
	_, out["norm"] = optim.DefaultOptimizer().Clip(grads)
	for i, grad := range grads {
		out["grad."+specs[i].Key] = grad
	}
}

func batchInputs(f parity.File, i int) []parity.Tensor {
	prefix := fmt.Sprintf("batch%d.", i)
	return []parity.Tensor{f.Image(prefix + "latents"), f.Image(prefix + "noise"), f.Get(prefix + "timesteps"),
		f.Get("encoder_hidden_states"), f.Image(prefix + "cond_u8").Map(parity.FromCondition)}
}

// The gradients of the first batch, and three steps.
func TestGoldenControlNetSteps(t *testing.T) {
	d, model := tinyDiffusion(t, true)
	batches, grads := parity.Open(t, "train", "controlnet_batches.safetensors"),
		parity.Open(t, "train", "controlnet_grads.safetensors")
	if specs, _ := split(model.Tree, "controlnet"); len(specs) != len(grads.Keys()) {
		t.Errorf("%d parameters, %d gradients in the golden", len(specs), len(grads.Keys()))
	}
	checkSteps(t, d, model, "controlnet", goldenSteps{
		numbers: readNumbers(t, "train", "controlnet.json"),
		batch:   func(i int) []parity.Tensor { return batchInputs(batches, i) },
		first:   named(grads, "controlnet.", ""), tolerance: 2e-4,
		after: named(parity.Open(t, "train", "controlnet_after3.safetensors"), "controlnet.", ""),
	})
}

// goldenSteps are a few steps, and the parameters after them.
type goldenSteps struct {
	numbers   goldenNumbers
	batch     func(i int) []parity.Tensor
	sample    func([]*Node) loss.Sample // of a batch; nil: sampleOf
	after     tensors                   // parameters
	first     tensors                   // gradients of the first step
	tolerance float64                   // of gradients
	alone     map[int]goldenStep        // what batches give with the parameters of the start
}

// tensors are those of a golden for some parameters, in the order of a file; nil for others.
type tensors func(nn.Spec) *parity.Tensor

// named finds tensors by the parameters' keys with another beginning.
func named(f parity.File, strip, prefix string) tensors {
	return func(spec nn.Spec) *parity.Tensor {
		key := prefix + strings.TrimPrefix(spec.Key, strip)
		if !f.Has(key) {
			return nil
		}
		x := f.Get(key)
		return &x
	}
}

// goldenNumbers are the losses and gradient norms of steps, and in float64 where they are given.
type goldenNumbers struct {
	Loss   []float64 `json:"loss"`
	Norm   []float64 `json:"grad_norm_before_clip"`
	Loss64 []float64 `json:"loss_float64"`
	Norm64 []float64 `json:"grad_norm_float64"`
}

// goldenStep is the loss of one batch and gradients of some parameters.
type goldenStep struct {
	loss      float64
	gradients tensors
}

// tolerance is limit or, if that is larger, ten times the relative error of value i of the reference's own float32.
func tolerance(limit float64, float32s, float64s []float64, i int) float64 {
	if len(float64s) != len(float32s) {
		return limit
	}
	return max(limit, 10*math.Abs(float32s[i]-float64s[i])/math.Abs(float64s[i]))
}

// goldenStepper trains what stands below a name of the model, with a step for each shape of batches.
type goldenStepper struct {
	t      *testing.T
	o      loss.Objective
	model  parity.Model
	golden goldenSteps
	steps  map[string]*step.Step
	last   *step.Step
}

// checkSteps trains what stands below a name of the model.
func checkSteps(t *testing.T, d loss.Diffusion, model parity.Model, trainable string, g goldenSteps) {
	t.Helper()
	if g.sample == nil {
		g.sample = sampleOf
	}
	s := goldenStepper{t: t, model: model, golden: g, steps: map[string]*step.Step{}}
	s.o = loss.Objective{
		Name: "golden", Compute: dtypes.Float32,
		Loss: func(trainable, frozen nn.Params, batch program.Nodes, _ loss.Draws) *Node {
			var inputs []*Node // in the order of goldenSteps.batch
			for in := batch["batch0"]; in != nil; in = batch[fmt.Sprint("batch", len(inputs))] {
				inputs = append(inputs, in)
			}
			return d.LossOf(trainable, frozen, g.sample(inputs))
		},
	}
	s.o.Trainable, s.o.Frozen = split(model.Tree, trainable)
	for i, want := range g.alone {
		m := s.step(i, 1, true)
		parity.CheckNumber(t, fmt.Sprintf("loss of batch %d at first", i), float64(m.Loss), want.loss, 1e-5)
		if s.checkGradients(fmt.Sprintf("batch %d: ", i), m.GradNorm, want.gradients) == 0 {
			t.Errorf("no gradient of batch %d was compared", i)
		}
	}
	numbers := g.numbers
	for i, loss := range numbers.Loss {
		m := s.step(i, i+1, i == 0)
		parity.CheckNumber(t, fmt.Sprintf("loss of step %d", i), float64(m.Loss), loss,
			tolerance(1e-5, numbers.Loss, numbers.Loss64, i))
		parity.CheckNumber(t, fmt.Sprintf("gradient norm of step %d", i), float64(m.GradNorm), numbers.Norm[i],
			tolerance(2e-5, numbers.Norm, numbers.Norm64, i))
		if i == 0 {
			if n := s.checkGradients("", m.GradNorm, g.first); n != len(s.o.Trainable) {
				t.Errorf("%d gradients for %d parameters", n, len(s.o.Trainable))
			}
		}
	}
	s.checkParameters()
}

// step makes step n with batch i, from the parameters of the start or those of the step before.
func (s *goldenStepper) step(i, n int, start bool) step.Measured {
	s.t.Helper()
	ctx, b, o := s.t.Context(), parity.Backend(s.t), s.o
	arrays := program.Arrays{}
	for j, x := range s.golden.batch(i) {
		a, err := xla.Put(b, x.Data, xla.Replicated, x.Shape...)
		if err != nil {
			s.t.Fatal(err)
		}
		name := fmt.Sprint("batch", j)
		arrays[name] = a
		o.Batch = append(o.Batch, xla.Value{Name: name, Shape: shapes.Make(dtypes.Float32, x.Shape...)})
	}
	shape := fmt.Sprint(o.Batch)
	made, err := s.steps[shape], error(nil)
	if made == nil {
		settings := step.Settings{Optimizer: optim.DefaultOptimizer(), Accumulation: 1}
		if made, err = step.Compile(ctx, b, o, settings); err != nil {
			s.t.Fatal(err)
		}
		if made, err = made.WithSeed(1); err != nil {
			s.t.Fatal(err)
		}
		if err := made.Load(ctx, checkpoint.InMemory(s.model.Values), nil); err != nil {
			s.t.Fatal(err)
		}
		s.steps[shape] = made
	} else if start {
		if err := made.Begin(ctx, checkpoint.InMemory(s.model.Values), nil); err != nil {
			s.t.Fatal(err)
		}
	}
	if !start && made != s.last {
		state, err := s.last.Snapshot()
		if err == nil {
			err = made.Begin(ctx, nil, inMemory(state))
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.last = made
	m, err := made.Run(ctx, n, step.Rates{LearningRate: 1e-3}, func() (program.Arrays, error) { return arrays, nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// inMemory is a state as a step goes on from it.
type inMemory nn.Values

func (s inMemory) Each(visit func(name string, data []float32) error) error {
	for name, data := range s {
		if err := visit(name, data); err != nil {
			return err
		}
	}
	return nil
}

// checkGradients compares gradients of a first step, as they stand in the first moments: times 1 - β₁, and clipped. It
// returns how many.
func (s *goldenStepper) checkGradients(name string, norm float32, want tensors) (checked int) {
	s.t.Helper()
	values, err := s.last.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	times := max(1, norm+1e-6) / float32(1-optim.DefaultOptimizer().AdamW.Beta1)
	for _, spec := range s.o.Trainable {
		if x := want(spec); x != nil {
			got := parity.FileOrder(spec, values["exp_avg."+spec.Key]).Map(func(m float32) float32 { return m * times })
			parity.Check(s.t, name+spec.Key, got, *x, s.golden.tolerance)
			checked++
		}
	}
	return checked
}

// checkParameters compares the parameters after the last step.
func (s *goldenStepper) checkParameters() {
	s.t.Helper()
	values, err := s.last.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	var differences []float64
	for _, spec := range s.o.Trainable {
		x, want := parity.FileOrder(spec, values["param."+spec.Key]), s.golden.after(spec)
		if want == nil {
			s.t.Fatalf("the golden has no %s after the steps", spec.Key)
		}
		for i, w := range want.Data {
			differences = append(differences, math.Abs(float64(x.Data[i]-w)))
		}
	}
	sort.Float64s(differences)
	if worst := differences[len(differences)-1]; !(worst <= 1e-3) {
		s.t.Errorf("a parameter is off by %g after the steps, tolerance 1e-3", worst)
	}
	if most := differences[len(differences)*999/1000]; !(most <= 5e-6) {
		s.t.Errorf("99.9 %% of the parameters should be within 5e-6 after the steps, got %g", most)
	}
}

// readNumbers reads the numbers of a golden.
func readNumbers(t *testing.T, parts ...string) (numbers goldenNumbers) {
	t.Helper()
	golden.ReadJSON(t, &numbers, parts...)
	return numbers
}

func TestGoldenUNetFinetune(t *testing.T) {
	model, program := finetuning(t)
	g := parity.Open(t, "train", "unet_finetune.safetensors")
	var names []string
	golden.ReadJSON(t, &names, "train", "unet_params.json")
	inputs := []parity.Tensor{
		g.Image("batch.latents"), g.Image("batch.noise"), g.Get("batch.timesteps"), g.Get("batch.ctx"),
	}
	got := program(inputs, "mean")
	parity.CheckNumber(t, "loss", float64(got["loss"].Data[0]), float64(g.Get("loss").Data[0]), 1e-5)
	parity.CheckNumber(t, "gradient norm", float64(got["norm"].Data[0]),
		float64(g.Get("total_grad_norm").Data[0]), 2e-5)

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
			parity.Check(t, name, parity.FileOrder(spec, got["grad."+spec.Key].Data), g.Get(key), 2e-4)
		}
	}
	norms := g.Get("per_param_grad_norm").Data
	for i, name := range names {
		var squares float64
		for _, v := range got["grad.unet."+name].Data {
			squares += float64(v) * float64(v)
		}
		parity.CheckNumber(t, "gradient norm of "+name, math.Sqrt(squares), float64(norms[i]), 2e-4)
	}
}

func TestGoldenVPrediction(t *testing.T) {
	d, model := goldenDiffusion(t, "sd21-tiny", true)
	g := parity.Open(t, "train", "controlnet_sd21_vpred.safetensors")
	inputs := []parity.Tensor{
		g.Image("batch.latents"), g.Image("batch.noise"), g.Get("batch.timesteps"), g.Get("batch.ctx"),
		g.Image("batch.cond_u8").Map(parity.FromCondition),
	}
	got := lossAndGradients(t, d, model, "controlnet", inputs)
	parity.CheckNumber(t, "loss", float64(got["loss"].Data[0]), float64(g.Get("loss").Data[0]), 1e-5)
	specs, _ := split(model.Tree, "controlnet")
	checked := 0
	for _, spec := range specs {
		if name := "grad." + strings.TrimPrefix(spec.Key, "controlnet."); g.Has(name) {
			parity.Check(t, spec.Key, parity.FileOrder(spec, got["grad."+spec.Key].Data), g.Get(name), 2e-4)
			checked++
		}
	}
	if checked == 0 {
		t.Error("no gradient was checked")
	}
}
