package settings_test

import (
	"reflect"
	"strings"
	"testing"

	"limner/internal/settings"
)

type inner struct {
	Rate float64 `default:"${rate=5e-6}"`
}

type outer struct {
	inner
	Name   string `default:"cosine"`
	On     bool   `default:"true"`
	Steps  int    `default:"500"`
	Bytes  int64  `default:"536870912"`
	Seed   uint64 `default:"3"`
	List   []int  `default:"4,8"`
	Kept   string
	Nested struct {
		Decay float64 `default:"-0.8"`
	}
	None, Some *inner
}

func TestDefaults(t *testing.T) {
	got := outer{Kept: "x", Some: &inner{}}
	if err := settings.SetDefaults(&got); err != nil {
		t.Fatal(err)
	}
	want := outer{
		inner: inner{5e-6}, Name: "cosine", On: true, Steps: 500, Bytes: 512 << 20, Seed: 3, List: []int{4, 8},
		Kept: "x", Some: &inner{5e-6},
	}
	want.Nested.Decay = -0.8
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := settings.Default[inner](); got.Rate != 5e-6 {
		t.Errorf("got %+v", got)
	}
}

// A tag that is no value of its field is named; the other fields have theirs.
func TestDefaultsThatAreNone(t *testing.T) {
	var got struct {
		Steps int   `default:"many"`
		Sides []int `default:"4,x"`
		Side  int8  `default:"4"`
		Rate  float64
		Name  string `default:"linear"`
	}
	err := settings.SetDefaults(&got)
	if err == nil || !strings.Contains(err.Error(), `Steps: default "many"`) || got.Name != "linear" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, want := range []string{
		`Sides: default "4,x"`, `Side: default "4": a field of type int8 has no default by a tag`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
