package plan

import (
	"maps"
	"math"
	"strings"
	"testing"

	"limner/xla"
	"limner/xla/hlo"
)

func TestEstimate(t *testing.T) {
	for _, c := range []struct{ optimal, roofline, want float64 }{
		{0.0327, 0.02, 0.0327},   // as it is
		{-3.8852, 0.076, 0.1148}, // four operations of unknown time
		{-1.5, 1.2, 1.5},         // one, and a step of more than a second
		{-93.97, 0.005, 0},       // far above what the program can take
		{0.0001, 0.2, 0},         // below it
		{math.NaN(), 0.1, 0},     // no number
		{math.Inf(1), 0.1, 0},    // no time
	} {
		if got := Estimate(c.optimal, c.roofline); math.Abs(got-c.want) > 1e-4 {
			t.Errorf("Estimate(%g, %g): got %g, want %g", c.optimal, c.roofline, got, c.want)
		}
	}
}

func TestNetworks(t *testing.T) {
	got := networks([]xla.Value{
		{Name: "param.controlnet.conv_in.weight", Class: xla.TrainedParameters},
		{Name: "exp_avg.controlnet.conv_in.weight", Class: xla.Moments},
		{Name: "unet.down_blocks.0.bias", Class: xla.FrozenParameters},
		{Name: "text_encoder_2.text_model.bias", Class: xla.FrozenParameters},
		{Name: "unet.mid_block.attn2.to_k"}, {Name: "sum.loss", Class: xla.GradientSums}, {Name: "pixels"},
	})
	want := map[string]string{
		"param.controlnet.conv_in": "controlnet", "exp_avg.controlnet.conv_in": "optimizer",
		"unet.down_blocks.0": "unet", "text_encoder_2.text_model": "text_encoder_2",
		"unet.mid_block.attn2": "unet", "sum": "optimizer", "": "rest",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestGuess looks for the largest batch of a job that takes 2 bytes and 3 for each image, on a chip of 100.
func TestGuess(t *testing.T) {
	report := func(batch int) *Report {
		r := &Report{
			Variant: Variant{Batch: batch}, HBM: 100, Peak: int64(2 + 3*batch),
			Classes: map[string]int64{"temporaries": int64(3 * batch)},
		}
		r.Fits = r.Peak <= r.HBM
		return r
	}
	for _, start := range []int{1, 4, 32, 33, 200} {
		var best *Report
		fits, fails := 0, 0
		for next, tries := start, 0; next > 0; tries++ {
			if tries > 10 {
				t.Fatalf("from %d: not found in %d tries", start, tries)
			}
			if r := report(next); r.Fits {
				fits, best = next, r
			} else {
				fails = next
			}
			next = guess(best, fits, fails)
		}
		if fits != 32 {
			t.Errorf("from %d: got %d, want 32", start, fits)
		}
	}
}

func TestWrite(t *testing.T) {
	topology, err := xla.FindTopology("v4-8")
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{
		Job: "training", Topology: "v4-8", Chips: 4, Variant: Variant{Batch: 12, Accumulation: 1, FSDP: true},
		Fits: true, HBM: 33e9, Peak: 15e9,
		Classes: map[string]int64{"trained parameters": 361e6, "moments": 723e6, "temporaries": 12e9},
		Programs: []Program{
			{Name: "step", Runs: 1, FLOP: 27.5e12, Accessed: 148e9, HBM: 98e9, Seconds: 0.24, Roofline: 0.1,
				Collectives: map[string]float64{"all-gather": 2e9, "reduce-scatter": 1.5e9, "all-reduce": 2000},
				Networks: map[string]Share{
					"unet": {17e12, 60e9}, "controlnet": {10e12, 35e9}, "optimizer": {0, 3e9}, "rest": {1e9, 5e8},
				}},
		},
	}
	r.total()
	var w strings.Builder
	r.Write(&w, topology, "quick", Run{Images: 4800, Epochs: 10, Price: 12})
	for _, want := range []string{
		"fits: 15.00 GB of 33.00 GB a chip (45 %)", "trained parameters     0.36 GB",
		"an image: 2.29 TFLOP, 12.3 GB", "200.0 images/s", "1000 steps of 48 images: 4m0s, for 0.80",
		"a checkpoint: 4.34 GB", "in collectives: all-gather 2.00 GB, reduce-scatter 1.50 GB\n", "about 2 cores",
		"  unet                 17.00 TFLOP    60.0 GB\n  controlnet           10.00 TFLOP    35.0 GB\n" +
			"  optimizer             0.00 TFLOP     3.0 GB\n  in collectives",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("no %q in\n%s", want, w.String())
		}
	}
	w.Reset()
	refused := &Report{
		Problem: "72 GB exceeds available HBM",
		Largest: []hlo.Tensor{{Layer: "unet.mid_block.attentions.0", Type: "4x8x4096x4096xf32", Bytes: 2.1e9}},
	}
	refused.Write(&w, topology, "quick", Run{})
	if !strings.Contains(w.String(), "does not fit: 72 GB exceeds available HBM\n  among its largest tensors: "+
		"2.10 GB 4x8x4096x4096xf32 in unet.mid_block.attentions.0\n") {
		t.Errorf("got %s", w.String())
	}
}
