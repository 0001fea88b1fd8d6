package folder

import (
	"strings"
	"testing"

	"limner/internal/disk"
	"limner/models/nn"
)

func TestCheckSpace(t *testing.T) {
	free, err := disk.Free(t.TempDir())
	if err != nil {
		t.Skip(err)
	}
	// A checkpoint of a third of what is free, so that two and the result fit, and three do not.
	tree := nn.Tree{{Key: "unet.weight", Shape: []int{int(free / 12 / 3)}}}
	for _, c := range []struct {
		name                         string
		limit, step, steps, existing int
		want                         string
	}{
		{"one", 0, 0, 10, 0, ""},
		{"two", 0, 0, 20, 0, ""},
		{"three", 0, 0, 30, 0, "3 checkpoints of "},
		{"a last one", 0, 0, 21, 0, "give --checkpoints_total_limit"},
		{"pruned", 1, 0, 1000, 0, ""},
		{"two kept, one coming", 2, 0, 1000, 0, "3 checkpoints of "},
		{"two kept, some there", 2, 100, 1000, 2, ""},
		{"more there than kept", 1, 100, 1000, 5, ""},
		{"going on", 0, 980, 1000, 0, ""},
		{"going on between two", 0, 985, 1000, 0, ""},
		{"done", 0, 1000, 1000, 0, ""},
	} {
		o := Output{Dir: t.TempDir(), Every: 10, Keep: c.limit}
		err := o.checkSpace(Contents{Trainable: tree, Optimizer: moments(tree, "F32")}, c.step, c.steps, c.existing)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// What a checkpoint is said to take is what it takes, or a little more.
func TestCheckpointBytes(t *testing.T) {
	big := nn.Spec{Key: "unet.big", Shape: []int{1000, 100}, Kind: nn.Dense}
	codes := nn.Spec{Key: "exp_avg." + big.Key, Shape: big.Shape, Kind: nn.Codes}
	s := tinySaver(t.TempDir(), realFiles{}, 0)
	s.contents.Trainable = append(s.contents.Trainable, big)
	for name, o := range map[string]OptimizerState{
		"float32":  moments(s.contents.Trainable, "F32"),
		"bfloat16": moments(s.contents.Trainable, "BF16"),
		"codes":    {Tree: nn.Tree{codes, {Key: "exp_avg_absmax." + big.Key, Shape: []int{400}}}, DType: "F32"},
	} {
		s.outputDir, s.contents.Optimizer = t.TempDir(), o
		values := s.valuesAt(1)
		for i := range values[codes.Key] {
			values[codes.Key][i] = float32(i % 256)
		}
		if err := s.Save(values, State{Step: 1}); err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, name := range []string{
			"unet/diffusion_pytorch_model.safetensors", "unet_ema/diffusion_pytorch_model.safetensors",
			"text_encoder/model.safetensors", "text_encoder_ema/model.safetensors", optimizerName,
		} {
			f, err := hashFile(s.outputDir + "/checkpoint-1/" + name)
			if err != nil {
				t.Fatal(err)
			}
			size += f.Size
		}
		if got := s.contents.bytes(); got < size || float64(got) > 1.01*float64(size) {
			t.Errorf("%s: computed %d bytes, written %d", name, got, size)
		}
	}
}
