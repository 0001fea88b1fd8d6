package train

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"limner/models/nn"
)

func TestBackground(t *testing.T) {
	var log strings.Builder
	var saved []int
	release := make(chan error)
	b := &background{
		agree: func(err error) error { return err },
		logf:  func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) },
		save: func(values nn.Values, state State) error {
			err := <-release
			if err == nil {
				saved = append(saved, int(values["x"][0]))
			}
			return err
		},
	}
	snapshot := func(x float32) func() (nn.Values, error) {
		return func() (nn.Values, error) { return nn.Values{"x": {x}}, nil }
	}
	// Training goes on while it saves.
	if err := errors.Join(b.start(State{Step: 2}, snapshot(2)), b.poll()); err != nil || b.last != 0 {
		t.Fatalf("got %v, last %d", err, b.last)
	}
	// The next one waits, and says so.
	go func() { release <- nil; release <- errors.New("no space left") }()
	if err := b.start(State{Step: 4}, snapshot(4)); err != nil || b.last != 2 {
		t.Fatalf("got %v, last %d", err, b.last)
	}
	for _, want := range []string{"checkpoint-4 waits for checkpoint-2 to be saved\n", "checkpoint-2 saved in 0.0"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, &log)
		}
	}
	if err := b.wait(); err == nil || err.Error() != "no space left" || b.last != 2 {
		t.Errorf("got %v, last %d", err, b.last)
	}
	// Each error is told once, and after it one can save again.
	if err := errors.Join(b.wait(), b.poll()); err != nil {
		t.Error(err)
	}
	go func() { release <- nil }()
	if err := errors.Join(b.start(State{Step: 5}, snapshot(5)), b.wait()); err != nil || b.last != 5 || !slices.Equal(saved, []int{2, 5}) {
		t.Errorf("got %v, last %d, saved %v", err, b.last, saved)
	}
	broken := func() (nn.Values, error) { return nil, errors.New("device lost") }
	if err := b.start(State{Step: 6}, broken); err == nil || err.Error() != "save checkpoint-6: device lost" {
		t.Errorf("got %v", err)
	}
}
