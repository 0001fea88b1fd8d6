package settings_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"limner/internal/settings"
)

type Reading struct {
	Column string `json:"column,omitempty" resume:"same"`
}

func TestEachRecorded(t *testing.T) {
	type recorded struct {
		Reading
		Seed     uint64 `json:"seed" resume:"same"`
		Log      string `json:"-" resume:"same"`
		Schedule struct {
			Steps int `json:"steps" resume:"free"`
		} `json:"schedule"`
		EMA *struct {
			Decay float64 `json:"decay" resume:"reorder"`
		} `json:"ema"`
		Options any `json:"options"`
	}
	want := []string{"column same", "seed same", "schedule.steps free", "ema.decay reorder", "options "}
	var got []string
	settings.EachRecorded(reflect.TypeFor[recorded](), func(keys []string, field reflect.StructField) {
		got = append(got, strings.Join(keys, ".")+" "+field.Tag.Get("resume"))
	})
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
