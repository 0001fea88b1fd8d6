package train

import (
	"context"
	"fmt"
	"testing"

	"limner/models/nn"
	"limner/models/vae"
	"limner/xla"
)

// A step whose programs are loaded gives the losses and the state of the one that was compiled, to the bit, and writes the state in place.
func TestLoadedStepIsTheSame(t *testing.T) {
	c := vae.Default()
	c.BlockOutChannels, c.NormNumGroups, c.LayersPerBlock = []int{4}, 2, 1
	c.DownBlockTypes, c.UpBlockTypes = []string{"DownEncoderBlock2D"}, []string{"UpDecoderBlock2D"}
	objective := Autoencoder{VAE: c, Decoder: true, Batch: 4, Resolution: 8}.Objective()
	cache := t.TempDir()
	type outcome struct {
		losses, state string
		aliases       int64
		loading       string
	}
	var outcomes []outcome
	for range 2 {
		b, err := xla.Open(context.Background(), xla.Options{Devices: 2, Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		var o outcome
		s, err := newStepper(context.Background(), b, objective, stepSettings{
			optimizer: DefaultOptimizer(), ema: true, accumulation: 1,
			announce: func(loading bool, _ xla.Expected) { o.loading += fmt.Sprint(loading, " ") },
		})
		if err != nil {
			t.Fatal(err)
		}
		o.loading += fmt.Sprint(s.loaded())
		if err := s.plant(1); err != nil {
			t.Fatal(err)
		}
		if err := s.load(startValues(s.layout, nn.InitValues(objective.Trainable, 1)), nn.InitValues(objective.Frozen, 1)); err != nil {
			t.Fatal(err)
		}
		pixels := make([]float32, 4*8*8*3)
		for i := range pixels {
			pixels[i] = float32(i%11)/5 - 1
		}
		for n := range 3 {
			m, err := s.run(context.Background(), n+1, rates{learningRate: 1e-2, emaDecay: 0.9}, func() ([]*xla.Array, error) {
				a, err := xla.Put(b, pixels, xla.Batch, 4, 8, 8, 3)
				return []*xla.Array{a}, err
			})
			if err != nil {
				t.Fatal(err)
			}
			o.losses += fmt.Sprint(m.loss, m.gradNorm, " ")
		}
		values, err := s.snapshot()
		if err != nil {
			t.Fatal(err)
		}
		o.state, o.aliases = fmt.Sprint(values), s.program.Memory().Aliases
		outcomes = append(outcomes, o)
	}
	compiled, loaded := outcomes[0], outcomes[1]
	if compiled.loading != "false false" || loaded.loading != "true true" {
		t.Errorf("announced and said: %s, then %s", compiled.loading, loaded.loading)
	}
	if loaded.losses != compiled.losses {
		t.Errorf("losses and norms: %s, compiled %s", loaded.losses, compiled.losses)
	}
	if loaded.state != compiled.state {
		t.Error("another state")
	}
	if loaded.aliases == 0 || loaded.aliases != compiled.aliases {
		t.Errorf("%d bytes are written in place, compiled %d", loaded.aliases, compiled.aliases)
	}
}
