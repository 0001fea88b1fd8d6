package diffusers_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"limner/internal/golden"
	"limner/models/checkpoint"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/safetensors"
	"limner/models/sd"
	"limner/models/unet"
)

// publishedLike is a small model built as those of a family were published, but for its widths.
func publishedLike(t *testing.T, family checkpoint.Family) *diffusers.Pipeline {
	t.Helper()
	p := &diffusers.Pipeline{ClassName: "StableDiffusionPipeline", Networks: sd.Default()}
	p.UNet.BlockOutChannels, p.UNet.LayersPerBlock, p.UNet.CrossAttentionDim = []int{64, 128}, 1, 64
	p.UNet.DownBlockTypes, p.UNet.UpBlockTypes = []string{"CrossAttnDownBlock2D", "DownBlock2D"},
		[]string{"UpBlock2D", "CrossAttnUpBlock2D"}
	p.VAE.BlockOutChannels, p.VAE.SampleSize = []int{32, 32}, 512
	p.VAE.DownBlockTypes = slices.Repeat([]string{"DownEncoderBlock2D"}, 2)
	p.VAE.UpBlockTypes = slices.Repeat([]string{"UpDecoderBlock2D"}, 2)
	p.Text.HiddenSize, p.Text.IntermediateSize, p.Text.NumHiddenLayers, p.Text.NumAttentionHeads, p.Text.ProjectionDim =
		64, 128, 2, 1, 64
	p.Text.BOSTokenID, p.Text.EOSTokenID = 0, 2
	p.Noise.ClipSample, p.Noise.SetAlphaToOne, p.Noise.StepsOffset, p.Noise.SkipPRKSteps = false, false, 1, true
	p.Noise.ClassName = "PNDMScheduler"
	switch family {
	case checkpoint.SD2:
		p.UNet.LinearProjection, p.UNet.AttentionHeadDim, p.UNet.SampleSize = true, unet.PerLevel{1, 2}, 96
		p.Text.HiddenAct, p.Noise.ClassName, p.Noise.PredictionType = "gelu", "DDIMScheduler", noise.VPrediction
	case checkpoint.SDXL:
		p.ClassName = "StableDiffusionXLPipeline"
		p.UNet.DownBlockTypes, p.UNet.UpBlockTypes = []string{"DownBlock2D", "CrossAttnDownBlock2D"},
			[]string{"CrossAttnUpBlock2D", "UpBlock2D"}
		p.UNet.LinearProjection, p.UNet.AttentionHeadDim, p.UNet.TransformerLayers = true,
			unet.PerLevel{1, 2}, unet.PerLevel{1, 2}
		p.UNet.CrossAttentionDim, p.UNet.SampleSize, p.VAE.ScalingFactor, p.VAE.SampleSize = 64+128, 128, 0.13025, 1024
		kind, channels, width := "text_time", 256, 6*256+32
		p.UNet.AdditionEmbedType, p.UNet.AdditionTimeEmbedDim, p.UNet.AdditionInputDim = &kind, &channels, &width
		text := p.Text
		text.Architectures, text.HiddenAct, text.HiddenSize, text.NumAttentionHeads, text.ProjectionDim =
			[]string{clip.WithProjection}, "gelu", 128, 2, 32
		p.Text2, p.ForceZeros = &text, true
		p.Noise.ClassName = "EulerDiscreteScheduler"
	}
	pad := clip.PadEnd
	if family == checkpoint.SD2 {
		pad = clip.PadExclamation
	}
	var err error
	if p.Tokenizer, err = clip.Standard(pad); err != nil {
		t.Fatal(err)
	}
	if p.XL() {
		if p.Tokenizer2, err = clip.Standard(clip.PadExclamation); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// singleFile writes a model folder as a single file.
func singleFile(t *testing.T, dir string, components []string, marks checkpoint.Marks) string {
	t.Helper()
	models := map[string]*checkpoint.Model{}
	for _, component := range components {
		m, err := checkpoint.OpenModel(filepath.Join(dir, component))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		models[component] = m
	}
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := checkpoint.SaveSingleFile(path, models, marks, ""); err != nil {
		t.Fatal(err)
	}
	return path
}

var ignorePlace = cmp.Options{
	cmpopts.IgnoreFields(diffusers.Pipeline{}, "Dir"), cmpopts.IgnoreFields(noise.Config{}, "Given"),
	cmpopts.IgnoreUnexported(diffusers.Pipeline{}), cmpopts.IgnoreTypes(&clip.Tokenizer{}),
}

// A single file gives back the configs that its family was published with, and every weight.
func TestSingleFileIsGuessed(t *testing.T) {
	for _, family := range []checkpoint.Family{checkpoint.SD1, checkpoint.SD2, checkpoint.SDXL} {
		t.Run(string(family), func(t *testing.T) {
			want := publishedLike(t, family)
			values := nn.Values{}
			for _, component := range want.Components() {
				values = nn.Merge(values, nn.InitValues(want.Tree(component), 1).Under(component))
			}
			dir := filepath.Join(t.TempDir(), "model")
			if err := want.Save(dir, values, "F32"); err != nil {
				t.Fatal(err)
			}
			got, err := diffusers.Open(singleFile(t, dir, want.Components(), checkpoint.Marks{}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, ignorePlace); diff != "" {
				t.Errorf("configs (-want +got):\n%s", diff)
			}
			if got.Tokenizer.Pad() != want.Tokenizer.Pad() {
				t.Errorf("padding: got %d, want %d", got.Tokenizer.Pad(), want.Tokenizer.Pad())
			}
			loaded, err := got.Load(got.Components()...)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.EqualFunc(values, loaded, slices.Equal) {
				t.Error("the weights differ")
			}
			checkFolderFrom(t, got, values)
		})
	}
}

// savedLike writes a small model of a family to a folder, with zeros for weights.
func savedLike(t *testing.T, family checkpoint.Family) (*diffusers.Pipeline, string) {
	t.Helper()
	p := publishedLike(t, family)
	dir := filepath.Join(t.TempDir(), "model")
	if err := p.Save(dir, zeros(p), "F32"); err != nil {
		t.Fatal(err)
	}
	return p, dir
}

func zeros(p *diffusers.Pipeline) nn.Values {
	values := nn.Values{}
	for _, component := range p.Components() {
		for _, spec := range p.Tree(component) {
			values[component+"."+spec.Key] = make([]float32, spec.Size())
		}
	}
	return values
}

// What a single file says of its noise schedule by empty tensors holds, also with the configs of a folder, and is
// written into single files.
func TestMarksOfSingleFiles(t *testing.T) {
	for _, c := range []struct {
		family     checkpoint.Family
		marks      checkpoint.Marks
		class      string
		prediction string
	}{
		{checkpoint.SDXL, checkpoint.Marks{VPrediction: true, ZeroSNR: true}, noise.Euler, noise.VPrediction},
		{checkpoint.SD1, checkpoint.Marks{VPrediction: true}, noise.PNDM, noise.VPrediction},
		{checkpoint.SD1, checkpoint.Marks{ZeroSNR: true}, noise.DDIM, noise.Epsilon}, // PNDM has no such field
		{checkpoint.SD2, checkpoint.Marks{ZeroSNR: true}, noise.DDIM, noise.VPrediction},
	} {
		want, dir := savedLike(t, c.family)
		path := singleFile(t, dir, want.Components(), c.marks)
		want.Noise.ClassName, want.Noise.PredictionType, want.Noise.RescaleBetasZeroSNR = c.class,
			c.prediction, c.marks.ZeroSNR
		configs := []string{""}
		if c.family == checkpoint.SDXL { // for one is enough
			configs = append(configs, dir)
		}
		for _, config := range configs {
			got, err := diffusers.OpenWith(path, diffusers.Options{Config: config})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, ignorePlace); diff != "" {
				t.Errorf("%s, %+v, configs of %q (-want +got):\n%s", c.family, c.marks, config, diff)
			}
		}
		if c.family != checkpoint.SDXL {
			continue
		}
		folder, again := filepath.Join(t.TempDir(), "folder"), filepath.Join(t.TempDir(), "again.safetensors")
		if err := want.Save(folder, zeros(want), "F32"); err != nil {
			t.Fatal(err)
		}
		for in, out := range map[string]string{path: again, folder: again + ".safetensors"} {
			if err := (checkpoint.Conversion{In: in, Out: out, To: checkpoint.ToSingleFile}).Run(); err != nil {
				t.Fatal(err)
			}
			if _, marks := diffusers.IsWholeFile(out); marks != c.marks {
				t.Errorf("%s: %s became a file with marks %+v, want %+v", c.family, in, marks, c.marks)
			}
		}
	}
}

func TestFileOfEDMIsRefused(t *testing.T) {
	p, dir := savedLike(t, checkpoint.SDXL)
	path := singleFile(t, dir, p.Components(), checkpoint.Marks{})
	c, err := checkpoint.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var entries []safetensors.Entry
	for _, key := range c.Keys() {
		tensor, _ := c.Tensor(key)
		entries = append(entries, safetensors.Entry{
			Key: key, DType: tensor.DType, Shape: tensor.Shape, Parts: []safetensors.Tensor{tensor},
		})
	}
	mean := safetensors.RawTensor("F32", []int{1}, make([]byte, 4))
	entries = append(entries, safetensors.Entry{
		Key: "edm_mean", DType: "F32", Shape: mean.Shape, Parts: []safetensors.Tensor{mean},
	})
	if err := safetensors.Write(path+".edm", entries, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := diffusers.Open(path + ".edm"); err == nil ||
		!strings.Contains(err.Error(), "it holds edm_mean: a model of EDM's noise levels") {
		t.Errorf("got %v", err)
	}
}

// checkFolderFrom writes a pipeline's folder straight from its file.
func checkFolderFrom(t *testing.T, p *diffusers.Pipeline, values nn.Values) {
	t.Helper()
	w, err := p.Weights(p.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := filepath.Join(t.TempDir(), "folder")
	if err := p.SaveFrom(dir, w, ""); err != nil {
		t.Fatal(err)
	}
	again, err := diffusers.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, again, ignorePlace); diff != "" {
		t.Errorf("configs of the folder (-want +got):\n%s", diff)
	}
	loaded, err := again.Load(again.Components()...)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(values, loaded, slices.Equal) {
		t.Error("the folder's weights differ")
	}
}

// With a folder of configs, heads and the like need no guess.
func TestGoldenSingleFileWithConfig(t *testing.T) {
	for _, family := range golden.Families {
		dir := golden.Path(t, family+"-tiny")
		want, err := diffusers.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := singleFile(t, dir, want.Components(), checkpoint.Marks{})
		got, err := diffusers.OpenWith(path, diffusers.Options{Config: dir, PredictionType: noise.VPrediction})
		if err != nil {
			t.Fatal(err)
		}
		want.Noise.PredictionType = noise.VPrediction
		if diff := cmp.Diff(want, got, ignorePlace); diff != "" {
			t.Errorf("%s: configs (-want +got):\n%s", family, diff)
		}
		values, err := want.Load(want.Components()...)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := got.Load(got.Components()...)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(values, loaded, slices.Equal) {
			t.Errorf("%s: the weights differ", family)
		}
	}
}

func TestControlNetInASingleFile(t *testing.T) {
	for _, family := range golden.Families {
		dir := golden.Path(t, family+"-tiny", "controlnet")
		m, err := checkpoint.OpenModel(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "control.safetensors")
		if err := checkpoint.SaveControlNetFile(path, m, ""); err != nil {
			t.Fatal(err)
		}
		// The tiny widths do not divide into 32 groups, or leave no room for 256 channels a number, as the published
		// ones do.
		if _, err := diffusers.ReadControlNet(path, nil); err == nil ||
			!strings.Contains(err.Error(), "norm_num_groups 32") &&
				!strings.Contains(err.Error(), "want at least 1537") {
			t.Errorf("%s: got %v", family, err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoWholeModel(t *testing.T) {
	unetFile := golden.Path(t, "sd15-tiny", "unet", "diffusion_pytorch_model.safetensors")
	if _, err := diffusers.Open(unetFile); err == nil ||
		!strings.Contains(err.Error(), "holds no whole model but: component (unet)") {
		t.Errorf("a UNet alone: got %v", err)
	}
	if _, err := diffusers.ReadControlNet(unetFile, nil); err == nil ||
		!strings.Contains(err.Error(), "holds no ControlNet but: component (unet)") {
		t.Errorf("a UNet for a ControlNet: got %v", err)
	}
	if _, err := diffusers.OpenWith(golden.Path(t, "sd15-tiny"),
		diffusers.Options{PredictionType: "noise"}); err == nil || !strings.Contains(err.Error(), `prediction type "noise": want epsilon, v_prediction or sample`) {
		t.Errorf("an unknown prediction type: got %v", err)
	}
	folder := golden.Path(t, "sd15-tiny")
	for want, o := range map[string]diffusers.Options{
		"original_config c: it goes with a single file":      {Config: "c"},
		`variant "fp17": ` + folder + " has no such weights": {Variant: "fp17"},
	} {
		p, err := diffusers.OpenWith(folder, o)
		if err == nil {
			_, err = p.Weights(diffusers.VAE)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := diffusers.OpenWith(unetFile, diffusers.Options{Variant: "fp16"}); err == nil ||
		!strings.Contains(err.Error(), "is a single file, which has none") {
		t.Errorf("a variant of a single file: got %v", err)
	}
}
