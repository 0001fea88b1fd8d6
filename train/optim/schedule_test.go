package optim

import (
	"encoding/json"
	"math"
	"testing"

	"limner/internal/golden"
	"limner/internal/parity"
)

func TestGoldenSchedules(t *testing.T) {
	var file struct {
		BaseLR  float64 `json:"base_lr"`
		Configs map[string]struct {
			Name   string  `json:"name"`
			Warmup int     `json:"num_warmup_steps"`
			Steps  int     `json:"num_training_steps"`
			Cycles float64 `json:"num_cycles"`
			Power  float64 `json:"power"`
			Rules  string  `json:"step_rules"`
		} `json:"configs"`
	}
	golden.ReadJSON(t, &file, "train", "lr_schedules.json")
	values := parity.Open(t, "train", "lr_schedules.safetensors")
	for name, c := range file.Configs {
		s := Schedule{
			Name: c.Name, Warmup: c.Warmup, Steps: c.Steps, Cycles: c.Cycles, Power: c.Power, StepRules: c.Rules,
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for step, want := range float64s(t, values, name) {
			if got := s.At(step, file.BaseLR); !(math.Abs(got-want) <= 1e-12) {
				t.Errorf("%s: step %d: got %.15g, want %.15g", name, step, got, want)
				break
			}
		}
	}
}

func TestGoldenEMADecay(t *testing.T) {
	var configs map[string]json.RawMessage
	golden.ReadJSON(t, &configs, "train", "ema.json")
	values := parity.Open(t, "train", "ema.safetensors")
	for name, raw := range configs {
		e := DefaultEMA()
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		for i, want := range float64s(t, values, name+".decay") {
			if got := e.At(i + 1); !(math.Abs(got-want) <= 1e-12) {
				t.Errorf("%s: decay after step %d: got %.15g, want %.15g", name, i+1, got, want)
				break
			}
		}
	}
}

// float64s reads a tensor of float64 without rounding.
func float64s(t *testing.T, f parity.File, key string) []float64 {
	t.Helper()
	x, ok := f.Tensor(key)
	if !ok {
		t.Fatalf("%s has no tensor %s", f.Path(), key)
	}
	raw, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float64, x.Size())
	for i := range out {
		out[i] = math.Float64frombits(le64(raw[8*i:]))
	}
	return out
}

func le64(b []byte) (v uint64) {
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}

func TestScheduleErrors(t *testing.T) {
	for _, s := range []Schedule{
		{Name: "cosin"}, {Name: "linear", Warmup: -1}, {Name: "piecewise_constant", StepRules: "1:10"},
		{Name: "piecewise_constant", StepRules: "1:a,2"},
	} {
		if s.Validate() == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
}

func TestWarmsUp(t *testing.T) {
	for _, name := range Schedules {
		want := name != "constant" && name != "piecewise_constant"
		s := Schedule{Name: name, Warmup: 10, Steps: 100, StepRules: "0.1:5,1"}
		if got := s.WarmsUp(); got != want {
			t.Errorf("%s: got %v", name, got)
		}
		if rises := s.At(0, 1) == 0 && s.At(9, 1) < 1; rises != want {
			t.Errorf("%s: the rate of the first step is %g", name, s.At(0, 1))
		}
		if s.Warmup = 0; s.WarmsUp() {
			t.Errorf("%s rises in no steps", name)
		}
	}
}
