package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/vae"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/program"
)

// tinyDecoder is the objective of a decoder of 8×8 pixels.
func tinyDecoder() loss.Objective {
	c := vae.Default()
	c.BlockOutChannels, c.NormNumGroups, c.LayersPerBlock = []int{4}, 2, 1
	c.DownBlockTypes, c.UpBlockTypes = []string{"DownEncoderBlock2D"}, []string{"UpDecoderBlock2D"}
	return loss.Autoencoder{VAE: c, Decoder: true, Batch: 4, Resolution: 8}.Objective()
}

// threeSteps are made by a step of tinyDecoder, which is freed.
func threeSteps(t *testing.T, b *xla.Backend, s *stepper) (steps []measured, state nn.Values) {
	t.Helper()
	if err := s.putSeed(1); err != nil {
		t.Fatal(err)
	}
	if err := s.load(t.Context(), checkpoint.InMemory(nn.InitValues(slices.Concat(s.objective.Trainable, s.objective.Frozen), 1)), nil); err != nil {
		t.Fatal(err)
	}
	pixels := make([]float32, 4*8*8*3)
	for i := range pixels {
		pixels[i] = float32(i%11)/5 - 1
	}
	for n := range 3 {
		m, err := s.run(context.Background(), n+1, rates{learningRate: 1e-2, emaDecay: 0.9}, func() (program.Arrays, error) {
			a, err := xla.Put(b, pixels, xla.Batch, 4, 8, 8, 3)
			return program.Arrays{loss.InputPixels: a}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, m)
	}
	state, err := s.snapshot()
	if err := errors.Join(err, s.free()); err != nil {
		t.Fatal(err)
	}
	return steps, state
}

// A step whose programs are loaded gives the losses and the state of the one that was compiled, to the bit, and writes the state in place.
func TestLoadedStepIsTheSame(t *testing.T) {
	cache := t.TempDir()
	type outcome struct {
		steps, state string
		aliases      int64
		loading      string
	}
	var outcomes []outcome
	for range 2 {
		b, err := xla.Open(context.Background(), xla.Options{Devices: 2, Effort: xla.EffortQuick, Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		var o outcome
		s, err := newStepper(context.Background(), b, tinyDecoder(), stepSettings{
			optimizer: optim.DefaultOptimizer(), ema: true, accumulation: 1,
			announce: func(loading bool, _ xla.Expected) { o.loading += fmt.Sprint(loading, " ") },
		})
		if err != nil {
			t.Fatal(err)
		}
		o.loading += fmt.Sprint(s.loaded())
		steps, state := threeSteps(t, b, s)
		o.steps, o.state, o.aliases = fmt.Sprint(steps), fmt.Sprint(state), s.program.Memory().Aliases
		outcomes = append(outcomes, o)
	}
	compiled, loaded := outcomes[0], outcomes[1]
	if compiled.loading != "false false" || loaded.loading != "true true" {
		t.Errorf("announced and said: %s, then %s", compiled.loading, loaded.loading)
	}
	if loaded.steps != compiled.steps {
		t.Errorf("losses and norms: %s, compiled %s", loaded.steps, compiled.steps)
	}
	if loaded.state != compiled.state {
		t.Error("another state")
	}
	if loaded.aliases == 0 || loaded.aliases != compiled.aliases {
		t.Errorf("%d bytes are written in place, compiled %d", loaded.aliases, compiled.aliases)
	}
}

// A step that is made in two programs is that of one, to float32's rounding: losses, norms and the averages of the parameters, which Adam
// moves by up to 1e-2 a step. In both everything is written in place.
func TestStepInTwo(t *testing.T) {
	b := parity.Backend(t)
	var steps [2][]measured
	var states [2]nn.Values
	for i, inTwo := range []bool{false, true} {
		s, err := newStepper(context.Background(), b, tinyDecoder(), stepSettings{optimizer: optim.DefaultOptimizer(), ema: true, accumulation: 1, inTwo: inTwo})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(s.parts()), i+1; got != want {
			t.Fatalf("%d programs, want %d", got, want)
		}
		var kept int64
		for _, v := range s.stateValues() {
			kept += int64(v.Shape.Memory())
		}
		if got := s.program.Memory().Aliases; got != kept {
			t.Errorf("%d bytes of %d are written in place", got, kept)
		}
		steps[i], states[i] = threeSteps(t, b, s)
	}
	for i, one := range steps[0] {
		two := steps[1][i]
		parity.CheckNumber(t, fmt.Sprint("loss of step ", i), float64(two.loss), float64(one.loss), 1e-5)
		parity.CheckNumber(t, fmt.Sprint("norm of step ", i), float64(two.gradNorm), float64(one.gradNorm), 1e-5)
	}
	for key, one := range states[0] {
		if !strings.HasPrefix(key, "ema.") {
			continue
		}
		for i, x := range states[1][key] {
			if math.Abs(float64(x-one[i])) > 1e-5 {
				t.Fatalf("%s: %g at %d in two programs, %g in one", key, x, i, one[i])
			}
		}
	}
}
