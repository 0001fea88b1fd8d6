package train

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"limner/internal/settings"
	"limner/train/loss"
	"limner/train/optim"
	"limner/train/watch"
)

// Whatever is recorded says what becomes of a run that is resumed with another value of it, and has the flag's name.
func TestRecordedFieldsHaveARule(t *testing.T) {
	for _, s := range []reflect.Type{reflect.TypeFor[Options](), reflect.TypeFor[Recipe]()} {
		settings.EachRecorded(s, func(keys []string, field reflect.StructField) {
			if rule := field.Tag.Get("resume"); !slices.Contains([]string{"same", "free", "reorder"}, rule) {
				t.Errorf("%s (%s): resume is %q, want same, free or reorder", keys, field.Name, rule)
			}
			flag, named := field.Tag.Lookup("name")
			if named && keys[0] != "ema" && strings.ReplaceAll(flag, "-", "_") != keys[len(keys)-1] {
				t.Errorf("%s is recorded as %s", flag, keys)
			}
		})
	}
}

// The tags of defaults are values of their fields.
func TestDefaults(t *testing.T) {
	ema := optim.EMA{}
	for _, s := range []any{
		&Options{
			EMA: &ema,
		}, &Recipe{DreamBooth: DreamBooth{Prior: &Prior{}}, LoRASettings: LoRASettings{LoRA: &loss.LoRA{}}},
		&watch.Options{},
	} {
		if err := settings.SetDefaults(s); err != nil {
			t.Error(err)
		}
	}
	if got := DefaultOptions(); got.LearningRate != 5e-6 || got.Schedule.Name != "constant" ||
		got.Optimizer.Adafactor.DecayRate != -0.8 || got.EMA != nil || ema != optim.DefaultEMA() {
		t.Errorf("got %+v and %+v", got, ema)
	}
}
