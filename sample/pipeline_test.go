package sample

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/controlnet"
	"limner/data/imaging"
	"limner/internal/golden"
	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/xla"
	"limner/xla/program"
)

// smallRequest asks for images of a few steps, with seeds 1, 2, … for the given prompts.
func smallRequest(prompts ...string) Request {
	r := DefaultRequest()
	r.NumInferenceSteps, r.Prompts = 3, prompts
	for i := range prompts {
		r.Seeds = append(r.Seeds, uint64(i+1))
	}
	return r
}

func mustSample(t *testing.T, p *Pipeline, r Request) *Result {
	t.Helper()
	result, err := p.Sample(context.Background(), r)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Images) != len(r.Prompts) || len(result.Latents) != len(r.Prompts)*p.latentSize() {
		t.Fatalf("%d prompts gave %d images and %d values of latents",
			len(r.Prompts), len(result.Images), len(result.Latents))
	}
	return result
}

func checkLatents(t *testing.T, name string, got, want []float32, tolerance float64) {
	t.Helper()
	parity.Check(t, name, parity.Tensor{Data: got, Shape: []int{len(got)}},
		parity.Tensor{Data: want, Shape: []int{len(want)}}, tolerance)
}

// An image depends on its own seed, prompt and negative prompt, not on its neighbours, its place, or the round.
func TestImagesDoNotDependOnTheBatch(t *testing.T) {
	p := goldenPipeline(t, false)
	n := 2*p.shape.Batch + 1
	r := smallRequest(slices.Repeat([]string{"a cat", "a dog"}, n)[:n]...)
	var steps []int
	r.OnStep = func(step, total int, latents func() ([]float32, error)) {
		steps = append(steps, step)
		if total != 3*r.NumInferenceSteps {
			t.Errorf("total: got %d steps, want %d", total, 3*r.NumInferenceSteps)
		}
		x, err := latents()
		if want := min(p.shape.Batch, n-(step-1)/r.NumInferenceSteps*p.shape.Batch) * p.latentSize(); err != nil ||
			len(x) != want {
			t.Errorf("step %d: %d values of latents, want %d; %v", step, len(x), want, err)
		}
	}
	all := mustSample(t, p, r)
	if len(steps) != 9 || !slices.IsSorted(steps) || steps[0] != 1 || steps[8] != 9 {
		t.Errorf("steps: got %v", steps)
	}
	one := smallRequest(r.Prompts[n-2])
	one.Seeds = []uint64{r.Seeds[n-2]}
	size := p.latentSize()
	// Not to the last bit: on some processors the convolutions of XLA's CPU backend sum a batch's last pixels in
	// another order. In its row it is.
	checkLatents(t, "alone", mustSample(t, p, one).Latents, all.Latents[(n-2)*size:(n-1)*size], 1e-5)
	one.Row = (n - 2) % p.shape.Batch
	checkLatents(t, "alone in its row", mustSample(t, p, one).Latents, all.Latents[(n-2)*size:(n-1)*size], 0)

	again := mustSample(t, p, r)
	for i, m := range all.Images {
		if !slices.Equal(m.Pix, again.Images[i].Pix) {
			t.Errorf("image %d differs the second time", i)
		}
	}
	r.NegativePrompts = []string{"blurry"}
	if other := mustSample(t, p, r); slices.Equal(other.Latents, all.Latents) {
		t.Error("the negative prompt has no effect")
	}
}

func TestConditioningScaleZeroIsNoControlNet(t *testing.T) {
	plain, control := goldenPipeline(t, false), goldenPipeline(t, true)
	r := smallRequest("a red circle", "a blue circle")
	want := mustSample(t, plain, r).Latents
	one := imaging.AppendCondition(nil, condition(t))
	r.Conditions = [][]float32{one}
	with := mustSample(t, control, r).Latents
	if slices.Equal(with, want) {
		t.Error("the ControlNet has no effect")
	}
	// One condition stands for all.
	r.Conditions = [][]float32{slices.Repeat(one, 2)}
	checkLatents(t, "one condition for each image", mustSample(t, control, r).Latents, with, 0)
	r.ControlNetConditioningScale = []float64{0}
	checkLatents(t, "conditioning scale 0", mustSample(t, control, r).Latents, want, 1e-5)
}

func TestTwoDevicesAgreeWithOne(t *testing.T) {
	one := goldenPipeline(t, true)
	if one.shape.Batch%2 != 0 {
		t.Skip("the goldens' batch is odd")
	}
	b, err := xla.Open(context.Background(), parity.Options(2))
	if err != nil {
		t.Fatal(err)
	}
	m := loadModel(t, "sd15", true)
	m.Pipeline.Noise = one.model.Pipeline.Noise
	r := smallRequest("a red circle", "a blue circle", "a green one")
	r.Conditions = [][]float32{imaging.AppendCondition(nil, condition(t))}
	two, err := New(context.Background(), b, m, one.shape, r)
	if err != nil {
		t.Fatal(err)
	}
	checkLatents(t, "two devices", mustSample(t, two, r).Latents, mustSample(t, one, r).Latents, 5e-5)
	if err := errors.Join(two.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

// Images that differ are encoded for the rows that they belong to, however these lie on the devices.
func TestEachImageBeginsFromItsOwn(t *testing.T) {
	one := goldenPipeline(t, false)
	b, err := xla.Open(context.Background(), parity.Options(2))
	if err != nil {
		t.Fatal(err)
	}
	m := loadModel(t, "sd15", false)
	m.Pipeline.Noise = one.model.Pipeline.Noise
	r := smallRequest("a red circle", "a blue circle", "a green one")
	r.Strength = 0.5
	for i := range r.Prompts {
		for _, v := range imaging.AppendPixels(nil, picture(t, "init.png")) {
			r.Images = append(r.Images, v*(1-0.5*float32(i)))
		}
	}
	shape := one.shape
	shape.Batch = 4 // two rows on each device, of which the last is not wanted
	two, err := New(context.Background(), b, m, shape, r)
	if err != nil {
		t.Fatal(err)
	}
	together := mustSample(t, two, r).Latents
	size, pixels := one.latentSize(), len(r.Images)/len(r.Prompts)
	for i := range r.Prompts {
		alone := r
		alone.Prompts, alone.Seeds, alone.Images = r.Prompts[i:i+1], r.Seeds[i:i+1], r.Images[i*pixels:(i+1)*pixels]
		checkLatents(t, r.Prompts[i], together[i*size:(i+1)*size], mustSample(t, one, alone).Latents, 5e-5)
	}
	if err := errors.Join(two.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

func TestReplaceAndNaN(t *testing.T) {
	p := goldenPipeline(t, false)
	const key = "unet.conv_out.bias"
	values, err := p.model.Pipeline.Load(diffusers.UNet)
	if err != nil {
		t.Fatal(err)
	}
	var tree nn.Tree
	for _, spec := range p.trees.step {
		if spec.Key == key {
			tree = append(tree, spec)
		}
	}
	good := checkpoint.InMemory{key: values[key]}
	bad := checkpoint.InMemory{key: slices.Clone(values[key])}
	bad[key][0] = float32(math.NaN())
	if err := p.Replace(tree, bad); err != nil {
		t.Fatal(err)
	}
	result, err := p.Sample(context.Background(), smallRequest("a cat"))
	if err != nil {
		t.Fatal(err)
	}
	if err := result.Err(); err == nil || !strings.Contains(err.Error(), `image 0: prompt "a cat", guidance_scale 7.5: the image has latents that are not finite`) {
		t.Errorf("NaN in the weights: got %v", err)
	}
	if err := p.Replace(tree, good); err != nil {
		t.Fatal(err)
	}
	mustSample(t, p, smallRequest("a cat"))
}

func TestCancel(t *testing.T) {
	p := goldenPipeline(t, false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := smallRequest("a cat")
	last := 0
	r.OnStep = func(step, _ int, _ func() ([]float32, error)) {
		last = step
		cancel()
	}
	if _, err := p.Sample(ctx, r); !errors.Is(err, context.Canceled) || last != 1 {
		t.Errorf("got %v after step %d", err, last)
	}
}

func TestRequestErrors(t *testing.T) {
	for _, c := range []struct {
		want    string
		control bool
		change  func(r *Request)
	}{
		{"no prompts", false, func(r *Request) { r.Prompts = nil }},
		{"1 seeds for 2 images", false, func(r *Request) { r.Seeds = r.Seeds[:1] }},
		{"3 negative prompts for 2 images", false, func(r *Request) { r.NegativePrompts = []string{"", "", ""} }},
		{"num_inference_steps 0", false, func(r *Request) { r.NumInferenceSteps = 0 }},
		{"guidance_scale NaN", false, func(r *Request) { r.GuidanceScale = math.NaN() }},
		{"guidance_rescale 2: want 0 to 1", false, func(r *Request) { r.GuidanceRescale = 2 }},
		{"strength 0.5 without images", false, func(r *Request) { r.Strength = 0.5 }},
		{"masks without images", false, func(r *Request) { r.Masks = make([]float32, 64*64) }},
		{"3 values of images", false, func(r *Request) { r.Images = make([]float32, 3) }},
		{`scheduler "ddjm": unknown; the nearest are ddim`, false, func(r *Request) { r.Scheduler = "ddjm" }},
		{
			"0 seeds for 2 images", false, func(r *Request) {
				r.Scheduler, r.Latents, r.Seeds = "euler_a", make([]float32, 2*8*8*4), nil
			},
		},
		{"controlnet_conditioning_scale -1", true, func(r *Request) { r.ControlNetConditioningScale = []float64{-1} }},
		{
			"controlnet_conditioning_scale: 2 numbers for 1 ControlNets",
			true, func(r *Request) { r.ControlNetConditioningScale = []float64{1, 1} },
		},
		{"control_guidance_start 0.5: want less than control_guidance_end 0.5", true, func(r *Request) {
			r.ControlGuidanceStart, r.ControlGuidanceEnd = []float64{0.5}, []float64{0.5}
		}},
		{"1 values of latents", false, func(r *Request) { r.Latents = []float32{1} }},
		{"without a ControlNet", false, func(r *Request) { r.Conditions = [][]float32{{1}} }},
		{"conditioning images for 0 of 1 ControlNets", true, func(r *Request) {}},
		{"1 values of conditioning images", true, func(r *Request) { r.Conditions = [][]float32{{1}} }},
	} {
		r := smallRequest("a", "b")
		c.change(&r)
		if _, err := goldenPipeline(t, c.control).Sample(context.Background(), r); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestShapeErrors(t *testing.T) {
	m := loadModel(t, "sd15", true)
	for _, c := range []struct {
		want    string
		devices int
		shape   Shape
	}{
		{"batch 10 does not divide over 4 devices: use 12", 4, Shape{Batch: 10, Height: 64, Width: 64}},
		{"batch 0: want at least 1", 1, Shape{Height: 64, Width: 64}},
		{"width 65: want a multiple of 8 pixels: the nearest are 64 and 72", 1, Shape{Batch: 1, Height: 64, Width: 65}},
		{"height 3: want a multiple of 8 pixels: the nearest are 8 and 16", 1, Shape{Batch: 1, Height: 3, Width: 64}},
	} {
		if err := m.Check(c.shape, c.devices); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	m.Compute = dtypes.Float32
	channels := m.Pipeline.VAE.BlockOutChannels[0]
	if got, want := m.LeastMemory(Shape{Batch: 2, Height: 64, Width: 128}, 2), int64(2*4*64*128*channels); got != want {
		t.Errorf("least memory: got %d, want %d", got, want)
	}
	control := m.ControlNets[0]
	control.ConditioningEmbeddingOutChannels = control.ConditioningEmbeddingOutChannels[1:]
	control.CrossAttentionDim++
	m.ControlNets[0] = control
	err := m.Check(Shape{Batch: 1, Height: 64, Width: 64}, 1)
	for _, want := range []string{"cross_attention_dim", "pixels for each latent"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// What is painted anew, what is noised and what a scheduler draws does not depend on the other images of a batch
// either.
func TestImageToImageDoesNotDependOnTheBatch(t *testing.T) {
	p := goldenPipeline(t, false)
	r := smallRequest(slices.Repeat([]string{"a cat"}, p.shape.Batch+1)...)
	r.Scheduler, r.Strength = "euler_a", 0.7
	r.Images = imaging.AppendPixels(nil, picture(t, "init.png"))
	r.Masks = make([]float32, p.shape.Height*p.shape.Width)
	for i := range r.Masks {
		r.Masks[i] = float32(i % p.shape.Width / (p.shape.Width / 2)) // the right half
	}
	all := mustSample(t, p, r)
	last := len(r.Prompts) - 1
	alone := r
	alone.Prompts, alone.Seeds = r.Prompts[last:], r.Seeds[last:]
	one := mustSample(t, p, alone)
	size := p.latentSize()
	checkLatents(t, "alone", one.Latents, all.Latents[last*size:], 0)

	// The left half is the image's, whatever is painted.
	other := alone
	other.Prompts = []string{"a dog"}
	two := mustSample(t, p, other)
	same := 0
	for i, v := range one.Latents {
		if left := i/p.channels()%p.latentWidth() < p.latentWidth()/2; left && v != two.Latents[i] {
			t.Fatalf("value %d, which stays, depends on the prompt", i)
		} else if !left && v == two.Latents[i] {
			same++
		}
	}
	if same > size/10 {
		t.Errorf("%d of %d values that are painted do not depend on the prompt", same, size/2)
	}
}

// Two ControlNets add up, and one that rests is not computed.
func TestTwoControlNets(t *testing.T) {
	one := goldenPipeline(t, true)
	m := loadModel(t, "sd15", true)
	m.Pipeline.Noise = one.model.Pipeline.Noise
	config := m.ControlNets[0]
	m.ControlNets = append(m.ControlNets, config)
	if err := m.Weights.(*diffusers.Weights).Open(ControlNetName(1), golden.Path(t, "sd15-tiny", "controlnet"),
		config.Tree()); err != nil {
		t.Fatal(err)
	}
	cond := imaging.AppendCondition(nil, condition(t))
	r := smallRequest("a red circle", "a blue circle")
	r.Conditions = [][]float32{cond, cond}
	r.ControlNetConditioningScale = []float64{0.7, 0.3}
	two, err := New(context.Background(), parity.Backend(t), m, one.shape, r)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	single := smallRequest(r.Prompts...)
	single.Conditions = [][]float32{cond}
	checkLatents(t, "0.7 and 0.3 of the same", mustSample(t, two, r).Latents, mustSample(t, one, single).Latents, 1e-4)

	r.ControlNetConditioningScale = []float64{0.7, 1}
	// the second never has a whole step
	r.ControlGuidanceStart, r.ControlGuidanceEnd = []float64{0, 0}, []float64{1, 0.1}
	single.ControlNetConditioningScale = []float64{0.7}
	checkLatents(t, "one of two at rest", mustSample(t, two, r).Latents, mustSample(t, one, single).Latents, 1e-5)
}

// A pipeline reads resident parameters where they are, and leaves them there.
func TestResidentParameters(t *testing.T) {
	plain := goldenPipeline(t, false)
	m := loadModel(t, "sd15", false)
	m.Pipeline.Noise, m.Resident = plain.model.Pipeline.Noise, program.Arrays{}
	for _, spec := range plain.trees.step {
		m.Resident[spec.Key] = plain.params[spec.Key]
	}
	r := smallRequest("a cat")
	p, err := New(context.Background(), parity.Backend(t), m, plain.shape, r)
	if err != nil {
		t.Fatal(err)
	}
	for key := range m.Resident {
		if p.params[key] != nil {
			t.Fatalf("%s is there twice", key)
		}
	}
	want := mustSample(t, plain, r).Latents
	checkLatents(t, "resident", mustSample(t, p, r).Latents, want, 0)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	checkLatents(t, "after closing", mustSample(t, plain, r).Latents, want, 0)
}

// The denoising step is given the embeddings of the conditioning images and the keys and values of the text, and has no
// part in computing them.
func TestWhatStepsShareIsComputedOnce(t *testing.T) {
	p := goldenPipeline(t, true)
	for _, spec := range p.trees.step {
		if strings.Contains(spec.Key, controlnet.Embedding) || strings.Contains(spec.Key, "attn2.to_k") ||
			strings.Contains(spec.Key, "attn2.to_v") {
			t.Errorf("the step reads %s", spec)
		}
	}
	pixels := p.shape.Height * p.shape.Width
	for _, v := range p.stepValues(stepKey{guidance: true, chunks: 1, controls: 1}) {
		if v.Name == "text" {
			t.Error("the step reads the text")
		}
		if d := v.Shape.Dimensions; len(d) == 4 && d[1]*d[2] >= pixels {
			t.Errorf("the step reads %s %s", v.Name, v.Shape)
		}
	}
	if got, want := len(p.trees.step)+len(p.trees.project)+len(p.trees.conditions[0]),
		len(p.model.Pipeline.UNet.Tree())+len(p.model.ControlNets[0].Tree()); got != want {
		t.Errorf("%d parameters in the step, the projections and the embedding, want %d", got, want)
	}
}
