package sample

import (
	"context"
	"testing"
	"time"

	"limner/xla"
	"limner/xla/program"
)

// BenchmarkHostOverhead says what a denoising step costs beside the work of the devices, at tiny size: launching a
// program with all the arguments of a step that does nothing, and what the loop takes beyond the step's program itself.
func BenchmarkHostOverhead(b *testing.B) {
	ctx, p := context.Background(), goldenPipeline(b, true)
	r := smallRequest("a red circle", "a blue circle")
	r.Scheduler, r.Conditions = "ddim", [][]float32{make([]float32, p.conditionSize(0))}
	const few, many = 10, 110
	sampled := func(steps int) func() error {
		r := r
		r.NumInferenceSteps = steps
		return func() error { _, err := p.Sample(ctx, r); return err }
	}

	r.NumInferenceSteps = many
	sched, err := p.schedule(r)
	if err != nil {
		b.Fatal(err)
	}
	texts, err := p.encode(ctx, r)
	if err != nil {
		b.Fatal(err)
	}
	calls, err := p.callPrograms(ctx, r, sched, texts.chunks)
	if err != nil {
		b.Fatal(err)
	}
	projector, err := p.projectProgram(ctx, p.projectionKey(r, texts.chunks))
	if err != nil {
		b.Fatal(err)
	}
	one := &round{
		p: p, request: r, schedule: sched, calls: calls, texts: texts,
		projector: projector, count: p.shape.Batch,
	}
	in, err := one.inputs(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer one.free()
	repeated := func(step *program.Program) func() error {
		return func() error {
			for range many {
				if _, err := step.Run(in.state, in.of(0, in.zeros), in.shared, p.params); err != nil {
					return err
				}
			}
			_, err := xla.Get[float32](one.latents)
			return err
		}
	}
	nothing := p.stepFunction(calls[0].key)
	nothing.Build = func(in program.Nodes) (next, outputs program.Nodes) {
		next = program.Nodes{}
		for _, v := range nothing.State {
			next[v.Name] = in[v.Name]
		}
		return next, nil
	}
	empty, err := program.Compile(ctx, p.backend, nothing)
	if err != nil {
		b.Fatal(err)
	}
	times := least(b, sampled(few), sampled(many), repeated(calls[0].Program), repeated(empty))
	loop, device, launch := (times[1]-times[0])/(many-few), times[2]/many, times[3]/many
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(loop), "step-ms")
	b.ReportMetric(ms(launch), "launch-ms")
	b.ReportMetric(ms(max(0, loop-device)), "loop-ms")
	b.ReportMetric(ms(launch+max(0, loop-device)), "overhead-ms")
	b.ReportMetric(0, "ns/op")
}

// least are the least times of functions, which take turns, so that all meet the machine in the same states.
func least(b *testing.B, functions ...func() error) []time.Duration {
	best := make([]time.Duration, len(functions))
	for i := range 6 {
		for k, f := range functions {
			start := time.Now()
			if err := f(); err != nil {
				b.Fatal(err)
			}
			if d := time.Since(start); i == 0 || d < best[k] {
				best[k] = d
			}
		}
	}
	return best
}
