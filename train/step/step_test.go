package step

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/vae"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/program"
)

func TestMain(m *testing.M) { parity.Main(m) }

// tinyDecoder is the objective of a decoder of 8×8 pixels.
func tinyDecoder() loss.Objective {
	c := vae.Default()
	c.BlockOutChannels, c.NormNumGroups, c.LayersPerBlock = []int{4}, 2, 1
	c.DownBlockTypes, c.UpBlockTypes = []string{"DownEncoderBlock2D"}, []string{"UpDecoderBlock2D"}
	return loss.Autoencoder{VAE: c, Decoder: true, Batch: 4, Resolution: 8}.Objective()
}

// threeSteps are made by a step of tinyDecoder, which is freed.
func threeSteps(t *testing.T, b *xla.Backend, s *Step) (steps []Measured, state nn.Values) {
	t.Helper()
	if err := s.putSeed(1); err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(),
		checkpoint.InMemory(nn.InitValues(slices.Concat(s.objective.Trainable, s.objective.Frozen), 1)),
		nil); err != nil {
		t.Fatal(err)
	}
	pixels := make([]float32, 4*8*8*3)
	for i := range pixels {
		pixels[i] = float32(i%11)/5 - 1
	}
	for n := range 3 {
		m, err := s.Run(context.Background(), n+1, Rates{LearningRate: 1e-2, EMADecay: 0.9},
			func() (program.Arrays, error) {
				a, err := xla.Put(b, pixels, xla.Batch, 4, 8, 8, 3)
				return program.Arrays{loss.InputPixels: a}, err
			})
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, m)
	}
	state, err := s.Snapshot()
	if err := errors.Join(err, s.Free()); err != nil {
		t.Fatal(err)
	}
	return steps, state
}

// A step whose programs are loaded gives the losses and the state of the one that was compiled, to the bit, and writes
// the state in place.
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
		s, err := Compile(context.Background(), b, tinyDecoder(), Settings{
			Optimizer: optim.DefaultOptimizer(), EMA: true, Accumulation: 1,
			Announce: func(loading bool, _ xla.Expected) { o.loading += fmt.Sprint(loading, " ") },
		})
		if err != nil {
			t.Fatal(err)
		}
		o.loading += fmt.Sprint(s.Loaded())
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

// A step that is made in two programs is that of one, to float32's rounding: losses, norms and the averages of the
// parameters, which Adam moves by up to 1e-2 a step. In both everything is written in place.
func TestStepInTwo(t *testing.T) {
	b := parity.Backend(t)
	var steps [2][]Measured
	var states [2]nn.Values
	for i, inTwo := range []bool{false, true} {
		s, err := Compile(context.Background(), b, tinyDecoder(),
			Settings{Optimizer: optim.DefaultOptimizer(), EMA: true, Accumulation: 1, InTwo: inTwo})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(s.Parts()), i+1; got != want {
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
		parity.CheckNumber(t, fmt.Sprint("loss of step ", i), float64(two.Loss), float64(one.Loss), 1e-5)
		parity.CheckNumber(t, fmt.Sprint("norm of step ", i), float64(two.GradNorm), float64(one.GradNorm), 1e-5)
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

// On four devices each holds all parameters and a quarter of what is kept beside them, with fsdp a quarter of
// everything; and what is taken from the devices is what was put there.
func TestStateIsDivided(t *testing.T) {
	c := vae.Default()
	c.BlockOutChannels, c.NormNumGroups = []int{8, 8}, 2
	c.DownBlockTypes, c.UpBlockTypes = []string{"DownEncoderBlock2D", "DownEncoderBlock2D"},
		[]string{"UpDecoderBlock2D", "UpDecoderBlock2D"}
	objective := loss.Autoencoder{VAE: c, Decoder: true, Batch: 4, Resolution: 8}.Objective()
	bytes := map[string]int64{}
	four, err := xla.Open(t.Context(), parity.Options(4))
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	for name, b := range map[string]*xla.Backend{"one": parity.Backend(t), "four": four, "fsdp": four} {
		s, err := Compile(context.Background(), b, objective,
			Settings{Optimizer: optim.DefaultOptimizer(), EMA: true, Accumulation: 1, FSDP: name == "fsdp"})
		if err != nil {
			t.Fatal(err)
		}
		stats := s.program.Memory()
		if stats.Aliases == 0 {
			t.Errorf("%s: the state is not updated in place: %+v", name, stats)
		}
		bytes[name] = stats.Aliases
		if err := s.putSeed(1); err != nil {
			t.Fatal(err)
		}
		values := nn.InitValues(objective.Trainable, 1)
		if err := s.Load(t.Context(), checkpoint.InMemory(nn.Merge(values, nn.InitValues(objective.Frozen, 1))),
			nil); err != nil {
			t.Fatal(err)
		}
		snapshot, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range values {
			if !slices.Equal(snapshot["ema."+key], want) || !slices.Equal(snapshot["param."+key], want) {
				t.Errorf("%s: %s came back otherwise", name, key)
			}
			for _, slot := range []string{"exp_avg.", "exp_avg_sq."} {
				if got := snapshot[slot+key]; len(got) != len(want) ||
					slices.ContainsFunc(got, func(x float32) bool { return x != 0 }) {
					t.Errorf("%s: %s%s does not begin with zeros", name, slot, key)
				}
			}
		}
		if err := s.Free(); err != nil {
			t.Fatal(err)
		}
	}
	// Parameters, averages and two moments; a few biases do not divide.
	share := func(name string) float64 { return float64(bytes[name]) / float64(bytes["one"]) }
	if got := share("four"); got < (1+3.0/4)/4 || got > (1+3.0/4)/4+0.02 {
		t.Errorf("four devices hold %g of one device's state each, want %g", got, (1+3.0/4)/4)
	}
	if got := share("fsdp"); got < 0.25 || got > 0.27 {
		t.Errorf("with fsdp they hold %g, want a quarter", got)
	}
}

// Frozen networks are kept in the compute dtype, what is trained in float32.
func TestDTypes(t *testing.T) {
	o := tinyDecoder()
	o.Compute = dtypes.BFloat16
	o.Trainable, o.Frozen = o.Trainable[1:], o.Trainable[:1]
	s := Describe(parity.Backend(t), o, Settings{Optimizer: optim.DefaultOptimizer(), Accumulation: 1})
	for _, v := range s.frozenValues(o.FrozenTree()) {
		if v.Shape.DType != dtypes.BFloat16 {
			t.Errorf("%s is kept as %s", v.Name, v.Shape.DType)
		}
	}
	for _, v := range s.stateValues() {
		if v.Shape.DType != dtypes.Float32 {
			t.Errorf("%s is trained as %s", v.Name, v.Shape.DType)
		}
	}
}
