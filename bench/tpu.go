package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/controlnet"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/noise"
	"limner/models/vae"
	"limner/train"
	"limner/xla"
)

const tpuArg = "tpu"

// tpuDiffusion is the loss of a ControlNet for Stable Diffusion 1.5 at 512 pixels.
func tpuDiffusion(batch, side int, cached bool) train.Diffusion {
	u := sd15()
	control := controlnet.FromUNet(u, nil)
	v, text, schedule := vae.Default(), clip.Default(), noise.Default()
	v.BlockOutChannels = []int{128, 256, 512, 512}
	v.DownBlockTypes = []string{"DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"}
	v.UpBlockTypes = []string{"UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"}
	v.LayersPerBlock = 2
	text.HiddenSize, text.IntermediateSize, text.NumHiddenLayers, text.NumAttentionHeads = 768, 3072, 12, 12
	schedule.BetaStart, schedule.BetaEnd, schedule.BetaSchedule = 0.00085, 0.012, "scaled_linear"
	return train.Diffusion{
		Networks: train.Networks{UNet: u, ControlNet: &control, VAE: v, Text: text, Noise: schedule, Compute: dtypes.BFloat16},
		Sizes:    train.Sizes{Batch: batch, Resolution: side, Tokens: text.MaxPositionEmbeddings},
		Name:     "controlnet", Train: []string{diffusers.ControlNet + "."}, CachedLatents: cached,
	}
}

// tpuRow is what a compiled program says of itself.
type tpuRow struct {
	Case                            string
	Batch                           int
	Compile                         float64
	Arguments, Temps, Peak          float64 // GB
	TFLOP, Accessed, HBM, OnChip    float64
	Optimal, MsPerImage, GBperImage float64
	Kinds                           map[string]float64
}

func tpu(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("tpu", flag.ContinueOnError)
	batch := flags.Int("batch", 4, "images a chip")
	side := flags.Int("side", 512, "pixels")
	cached := flags.Bool("cached", false, "latents")
	remat := flags.Bool("remat", false, "checkpointing")
	what := flags.String("what", "controlnet", "controlnet or attention")
	fsdp := flags.Bool("fsdp", false, "fsdp")
	effort := flags.String("effort", "quick", "effort")
	topology := flags.String("tpu", "v4-8", "topology")
	dump := flags.String("dump", "", "file for the StableHLO")
	hlo := flags.String("hlo", "", "file for the optimised program")
	if err := flags.Parse(args); err != nil {
		return err
	}
	t, err := xla.FindTopology(*topology)
	if err != nil {
		return err
	}
	b, err := xla.OpenPlan(ctx, t, xla.Effort(*effort), xla.Options{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer b.Close()
	start := time.Now()
	if *what == "attention" {
		n := *batch * t.Chips()
		sq := *side * *side / 64
		shape := shapes.Make(dtypes.BFloat16, n, sq, 320)
		v := func(name string) xla.Value { return xla.Value{Name: name, Shape: shape, Sharding: xla.Batch} }
		p, err := b.Compile(ctx, xla.Function{Name: "attention", Inputs: []xla.Value{v("q"), v("k"), v("v"), v("do")},
			Outputs: []xla.Sharding{xla.Batch, xla.Batch, xla.Batch, xla.Batch},
			Build: func(_ *Graph, _, in []*Node) (next, outputs []*Node) {
				y := nn.ScaledDotProduct(nn.Params{}.WithAttention(b.AttentionKernel()), in[0], in[1], in[2], 8, nil)
				loss := ReduceAllSum(Mul(ConvertDType(y, dtypes.Float32), ConvertDType(in[3], dtypes.Float32)))
				return nil, append(Gradient(loss, in[:3]...), y)
			}})
		if err != nil {
			return err
		}
		return report(p, args, *batch, time.Since(start).Seconds(), *hlo, out)
	}
	o := train.DefaultOptions()
	o.GradientCheckpointing, o.FSDP = *remat, *fsdp
	d := tpuDiffusion(*batch*t.Chips(), *side, *cached)
	programs, err := train.PlanStep(ctx, b, d.Objective(), o)
	if err != nil {
		return err
	}
	if *dump != "" {
		text, err := programs[0].StableHLO()
		if err != nil {
			return err
		}
		if err := os.WriteFile(*dump, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return report(programs[0], args, *batch, time.Since(start).Seconds(), *hlo, out)
}

func report(p *xla.Program, args []string, batch int, seconds float64, hlo string, out io.Writer) error {
	m := p.Memory()
	cost, err := p.Planned().Cost()
	if err != nil {
		return err
	}
	traffic, err := p.Traffic()
	if err != nil {
		return err
	}
	if hlo != "" {
		code, _, err := p.Planned().OptimizedProgram()
		if err != nil {
			return err
		}
		if err := os.WriteFile(hlo, code, 0o644); err != nil {
			return err
		}
	}
	n := float64(batch)
	row := tpuRow{
		Case: fmt.Sprint(args), Batch: batch, Compile: seconds,
		Arguments: float64(m.Arguments) / 1e9, Temps: float64(m.Temporaries) / 1e9, Peak: float64(m.Peak) / 1e9,
		TFLOP: cost["flops"] / 1e12, Accessed: cost["bytes accessed"] / 1e9, HBM: traffic.Bytes / 1e9, OnChip: traffic.OnChip / 1e9,
		Optimal: cost["optimal_seconds"], MsPerImage: cost["optimal_seconds"] / n * 1e3, GBperImage: cost["bytes accessed"] / n / 1e9,
		Kinds: map[string]float64{},
	}
	for k, v := range traffic.ByKind {
		if v > 1e8 {
			row.Kinds[k] = v / 1e9
		}
	}
	return json.NewEncoder(out).Encode(row)
}
