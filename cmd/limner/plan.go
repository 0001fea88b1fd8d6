package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"limner/controlnet"
	"limner/internal/refusal"
	"limner/models/diffusers"
	"limner/plan"
	"limner/sample"
	"limner/xla"
)

// planCmd holds what can be planned: the commands with their own flags, of which those that name files are optional.
type planCmd struct {
	trainCmd
	Sample sampleCmd `cmd:"" name:"sample"`

	TPU          string  `group:"plan" name:"tpu" default:"v4-8" placeholder:"NAME" help:"TPU to plan for: v4-8 to v4-512, v5e-1 to v5e-256, v5p-8 to v5p-512, v6e-1 to v6e-256."`
	Effort       string  `group:"plan" enum:"quick,default" default:"quick" help:"How much work the compiler may spend. quick (XLA's O0) takes minutes for Stable Diffusion 1.5; default, what a run compiles with, up to ten times that and three times the memory."`
	LargestBatch bool    `group:"plan" help:"Search the largest batch a chip that fits, by compiling."`
	Advise       bool    `group:"plan" help:"Compile variants that take less memory or time, too: FSDP, cached latents, gradient checkpointing, half the batch with accumulation."`
	Images       int     `group:"plan" placeholder:"N" help:"Images of the dataset, for hours and disk."`
	Price        float64 `group:"plan" placeholder:"X" help:"What the TPU costs an hour, in any currency."`
	Save         string  `group:"plan" placeholder:"FILE" help:"Write the compiled programs; those of --effort default train and sample on that TPU take with --executable instead of compiling."`
	JSON         bool    `group:"plan" name:"json" help:"Print the reports as JSON."`
}

// Help shows one working example.
func (planCmd) Help() string {
	return `Example:

  limner plan controlnet --model sd15 --tpu v4-8 --resolution 512 --train_batch_size 12 --mixed_precision bf16 --cache_latents --fsdp

Compiles the very programs of train and sample for a TPU that is not here, with the TPU's own compiler, and says whether they fit and how long they take.
--model may be sd15, sd21 or sdxl, whose structure is known, or a model as elsewhere, of which the configs are read. No weights and no data are needed.
Times are the compiler's estimate; nothing was run.`
}

// asPlan turns the example of a command into that of its plan.
var asPlan = strings.NewReplacer("limner train ", "limner plan ", "limner sample ", "limner plan sample ")

// optionalIn are the flags that say where files are, which planning does not need.
var optionalIn = []string{"output-dir"}

// relaxPlan makes those flags of plan's commands optional, and their help and examples plan's.
func relaxPlan(k *kong.Kong) {
	for _, node := range k.Model.Children {
		if node.Name != "plan" {
			continue
		}
		for _, command := range node.Children {
			_, example, _ := strings.Cut(command.Detail, "Example:")
			lines := strings.SplitAfter(strings.TrimSpace(example), "\n")
			last := slices.IndexFunc(lines, func(line string) bool { return !strings.HasSuffix(line, "\\\n") })
			example = asPlan.Replace(strings.Join(lines[:last+1], ""))
			command.Help = "As train " + command.Name + "."
			if command.Name == "sample" {
				command.Help = "As sample."
			}
			command.Detail = "Example:\n\n  " + strings.TrimSpace(example) +
				"\n\nlimner plan --help says what is printed. Files need not be there."
			for _, flag := range command.Flags {
				if slices.Contains(optionalIn, flag.Name) {
					flag.Required = false
				}
			}
		}
	}
}

// planOf is the plan command that a command stands below, or nil.
func planOf(command *kong.Context) *planCmd {
	for _, step := range command.Path {
		if step.Command == nil {
			continue
		}
		if p, ok := step.Command.Target.Addr().Interface().(*planCmd); ok {
			return p
		}
	}
	return nil
}

// open finds the topology and opens a backend that compiles for it.
func (c *planCmd) open(ctx context.Context) (plan.Planner, *xla.Backend, error) {
	topology, err := xla.FindTopology(c.TPU)
	if err != nil {
		return plan.Planner{}, nil, usageError{fmt.Errorf("--tpu: %w", err)}
	}
	b, err := xla.OpenPlan(ctx, topology, xla.Options{Effort: xla.Effort(c.Effort), Log: os.Stderr})
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	return plan.Planner{Topology: topology, Log: log}, b, err
}

// train plans a training.
func (c *planCmd) train(ctx context.Context, what trainer, prepare prepareRun) error {
	planner, b, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	f := what.flags()
	o, r, err := trainSettings(what, b.Devices(), true)
	if err != nil {
		return err
	}
	if !slices.Contains(diffusers.Families, r.Model) {
		if r.Model, err = findModel(ctx, f.Basics.ModelOptions); err != nil {
			return err
		}
	}
	job := plan.Job{Name: "training", Training: true, Start: plan.Variant{
		Batch: o.Batch / b.Devices(), Accumulation: o.Accumulation, Checkpointing: o.GradientCheckpointing,
		CachedLatents: r.CacheLatents, FSDP: o.FSDP,
	}}
	job.Compile = func(ctx context.Context, v plan.Variant) ([]plan.Part, error) {
		o, r := o, r
		o.Batch, o.Accumulation, o.GradientCheckpointing, o.FSDP, r.CacheLatents = v.Batch*b.Devices(), v.Accumulation,
			v.Checkpointing, v.FSDP, v.CachedLatents
		run, err := prepare(ctx, b, o, r)
		if err != nil {
			return nil, refusal.Error{Err: err}
		}
		if err := c.checkMemory(run.Objective.Parameters(), true); err != nil {
			return nil, err
		}
		programs, err := run.Plan(ctx)
		if err != nil {
			return nil, err
		}
		parts := make([]plan.Part, len(programs))
		for i, p := range programs {
			parts[i] = plan.Part(p)
		}
		return parts, nil
	}
	return c.report(ctx, planner, job, o.MaxTrainSteps, o.NumTrainEpochs)
}

// sample plans sampling.
func (c *planCmd) sample(ctx context.Context, s *sampleCmd) error {
	if err := s.CheckRanges(); err != nil {
		return usageError{err}
	}
	planner, b, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	m := sample.Model{Compute: s.Compute(), VAESlicing: s.VAESlicing, VAETiling: s.VAETiling}
	if slices.Contains(diffusers.Families, s.Model) {
		m.Pipeline, err = diffusers.Family(s.Model)
	} else {
		m.Pipeline, err = openModel(ctx, s.ModelOptions)
	}
	if err != nil {
		return err
	}
	for _, name := range s.ControlNets {
		config := controlnet.FromUNet(m.Pipeline.UNet, nil)
		if name != s.Model {
			path, err := locate(ctx, name, s.Variant)
			if err != nil {
				return err
			}
			if config, err = diffusers.ReadControlNet(path, said); err != nil {
				return refusal.Error{Err: err}
			}
		}
		m.ControlNets = append(m.ControlNets, config)
	}
	if len(s.Prompt) == 0 {
		s.Prompt = []string{""}
	}
	r := s.Request()
	side := m.Pipeline.UNet.SampleSize * m.Pipeline.VAE.Scale()
	shape := sample.Shape{Height: s.Height, Width: s.Width}
	if shape.Height == 0 {
		shape.Height = side
	}
	if shape.Width == 0 {
		shape.Width = side
	}
	if err := c.checkMemory(m.Pipeline.UNet.Tree().Size(), false); err != nil {
		return err
	}
	job := plan.Job{Name: "sampling", Start: plan.Variant{Batch: max(1, s.BatchSize/b.Devices())}}
	job.Compile = func(ctx context.Context, v plan.Variant) ([]plan.Part, error) {
		shape := shape
		shape.Batch = v.Batch * b.Devices()
		p, err := sample.CompileOnly(ctx, b, m, shape, r)
		if err != nil {
			return nil, err
		}
		parts := []plan.Part{
			{Name: "text", Program: p.Text, Runs: 1}, {Name: "projections of the text", Program: p.Project, Runs: 1},
			{Name: "denoising step", Program: p.Step, Runs: p.Calls},
		}
		for _, program := range p.Conditions {
			parts = append(parts, plan.Part{Name: "conditioning embedding", Program: program, Runs: 1})
		}
		if p.Decode != nil {
			parts = append(parts, plan.Part{Name: "decoding", Program: p.Decode, Runs: v.Batch})
		}
		return parts, nil
	}
	return c.report(ctx, planner, job, 0, 0)
}

// keep writes the programs of a report.
func (c *planCmd) keep(_ *plan.Report, parts []plan.Part) error {
	if xla.Effort(c.Effort) == xla.EffortQuick {
		fmt.Fprintln(os.Stderr, "saving programs of quick effort, which train and sample do not take, "+
			"since they compile with the default: add --effort default")
	}
	var programs []*xla.Program
	for _, part := range parts {
		programs = append(programs, part.Program)
	}
	return xla.SaveExecutables(c.Save, programs...)
}

// checkMemory fails where the compiler would not get the memory that the programs of so many parameters take it:
// measured for Stable Diffusion 1.5's.
func (c *planCmd) checkMemory(parameters int, training bool) error {
	each := 4.7 // bytes
	switch {
	case xla.Effort(c.Effort) == xla.EffortQuick:
	case training:
		each = 14.2
	default:
		each = 7.8
	}
	need := int64(float64(parameters) * each)
	if free := xla.FreeMemory(); free > 0 && free < need {
		return fmt.Errorf("compiling this with %s effort takes about %.1f GB of memory, %.1f GB are free here: "+
			"use a machine with more", c.Effort, float64(need)/1e9, float64(free)/1e9)
	}
	return nil
}

// report compiles the job and prints what is known of it.
func (c *planCmd) report(ctx context.Context, planner plan.Planner, job plan.Job, steps, epochs int) error {
	if c.Save != "" {
		planner.Keep = c.keep
	}
	first, err := planner.Compile(ctx, job, job.Start)
	if err != nil {
		return err
	}
	planner.Keep = nil // only what was asked for is saved
	reports := []*plan.Report{first}
	if c.Advise || !first.Fits {
		more, err := planner.Advice(ctx, job, first)
		if err != nil {
			return err
		}
		reports = append(reports, more...)
	}
	if c.LargestBatch {
		const compilations = 6
		best, err := planner.Largest(ctx, job, first, compilations)
		if err != nil {
			return err
		}
		if best != nil && best != first {
			best.Job = "largest batch that fits"
			reports = append(reports, best)
		}
	}
	run := plan.Run{Steps: steps, Epochs: epochs, Images: c.Images, Price: c.Price}
	if c.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Effort  string         `json:"effort"`
			Run     plan.Run       `json:"run"`
			Reports []*plan.Report `json:"reports"`
		}{c.Effort, run, reports})
	}
	var text strings.Builder
	first.Write(&text, planner.Topology, c.Effort, run)
	for i, r := range reports[1:] {
		if i == 0 {
			text.WriteString("\nalso compiled:\n")
		}
		r.WriteLine(&text, first)
	}
	_, err = fmt.Print(text.String())
	return err
}
