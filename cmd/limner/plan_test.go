package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/controlnet"
	"limner/models/diffusers"
	"limner/plan"
)

// planned runs limner plan and returns its first report.
func planned(t *testing.T, args ...string) plan.Report {
	t.Helper()
	stdout, stderr, code := limner(t, ".", append([]string{"plan"}, append(args, "--tpu", "v4-8", "--json")...)...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var out struct{ Reports []plan.Report }
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		t.Fatal(err)
	}
	r := out.Reports[0]
	if !r.Fits || r.Chips != 4 || r.Peak >= r.HBM || r.ImagesPerSec <= 0 {
		t.Errorf("got %+v, want that it fits four chips", r)
	}
	return r
}

// near fails where a number of bytes is not within some percent of what it should be.
func near(t *testing.T, what string, got int64, want, percent float64) {
	t.Helper()
	if d := math.Abs(float64(got) - want); d > percent/100*want {
		t.Errorf("%s: got %d bytes, want %.0f within %g %%", what, got, want, percent)
	}
}

// TestPlanTraining compiles the training of a ControlNet for the demo's base model, sharded over the four chips of a
// v4-8.
func TestPlanTraining(t *testing.T) {
	const base = "../../demo/base"
	r := planned(t, "controlnet", "--model", base, "--resolution", "64",
		"--conditioning_embedding_out_channels", "16,32,64,64", "--mixed_precision", "bf16", "--train_batch_size", "2",
		"--cache_latents", "--fsdp")
	model, err := diffusers.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	control := float64(controlnet.FromUNet(model.UNet, []int{16, 32, 64, 64}).Tree().Size())
	// float32, a quarter on each chip but for a few parameters that do not divide.
	near(t, "trained parameters", r.Classes["trained parameters"], 4*control/4, 3)
	near(t, "moments", r.Classes["moments"], 2*4*control/4, 3)
	near(t, "frozen parameters", r.Classes["frozen parameters"],
		2*float64(model.UNet.Tree().Size()+model.Text.Tree().Size()), 1)
	if c := r.Programs[0].Collectives; c["all-gather"] < 2*control || c["reduce-scatter"] == 0 {
		t.Errorf("got %v, want the parameters gathered in bfloat16, and gradients summed into parts", c)
	}
	if len(r.Programs) != 1 || r.Programs[0].FLOP < 1e9 {
		t.Errorf("got %+v, want one program of more than 1 GFLOP", r.Programs)
	}
	shares := r.Programs[0].Networks
	for _, network := range []string{"unet", "controlnet", "text_encoder"} {
		if shares[network].FLOP == 0 || shares[network].HBM == 0 {
			t.Errorf("%s has nothing of %v", network, shares)
		}
	}
	if shares["optimizer"].HBM == 0 || shares["optimizer"].FLOP != 0 {
		t.Errorf("got %v, want traffic alone for the optimizer", shares)
	}
	// The ControlNet has the UNet's encoder, and two gradients of it: three times the arithmetic. The UNet has the
	// decoder beside it, with one gradient.
	total := 0.0
	for _, share := range shares {
		total += share.FLOP
	}
	const padding = 1.1 // of maps of 8×8, whose products the compiler leaves out
	if shares["controlnet"].FLOP < shares["unet"].FLOP || total > padding*r.Programs[0].FLOP {
		t.Errorf("got %v of %g, want the ControlNet's gradients to be its own, and nothing that no result needs",
			shares, r.Programs[0].FLOP)
	}
}

// TestPlanSample compiles sampling with it.
func TestPlanSample(t *testing.T) {
	file := filepath.Join(t.TempDir(), "programs")
	r := planned(t, "sample", "--model", "../../demo/base", "--dtype", "bf16", "--num_inference_steps",
		"16", "--save", file)
	if info, err := os.Stat(file); err != nil || info.Size() < 1e5 {
		t.Errorf("the programs were not saved: %v", err)
	}
	if len(r.Programs) != 4 || r.Programs[2].Runs != 16 {
		t.Errorf("got %+v, want the text, its projections, 16 steps and decoding", r.Programs)
	}
}

func TestPlanRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"known are v4-8|16": {"sample", "--model", "sd15", "--tpu", "v4-7"},
		"resolution: got 0, want 1 to 8192": {
			"controlnet", "--model", "sd15", "--resolution", "0",
		},
		"no model folder at sd99": {"controlnet", "--model", "sd99"},
		"train_batch_size, global_batch_size: got -1, want 1 to": {
			"controlnet", "--model", "sd15", "--train_batch_size=-1",
		},
	} {
		_, stderr, code := limner(t, ".", append([]string{"plan"}, args...)...)
		if code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, %q, want %q", args, code, stderr, want)
		}
	}
}
