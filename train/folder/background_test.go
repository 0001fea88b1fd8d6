package folder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"limner/models/nn"
)

func TestBackground(t *testing.T) {
	var log strings.Builder
	var saved []int
	release := make(chan error)
	b := &Background{
		Agree: func(err error) error { return err },
		Logf:  func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) },
		Save: func(values nn.Values, state State) error {
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
	if err := errors.Join(b.Start(State{Step: 2}, snapshot(2)), b.Poll()); err != nil || b.Last != 0 {
		t.Fatalf("got %v, last %d", err, b.Last)
	}
	// The next one waits, and says so.
	go func() { release <- nil; release <- errors.New("no space left") }()
	if err := b.Start(State{Step: 4}, snapshot(4)); err != nil || b.Last != 2 {
		t.Fatalf("got %v, last %d", err, b.Last)
	}
	for _, want := range []string{"checkpoint-4 waits for checkpoint-2 to be saved\n", "checkpoint-2 saved in 0.0"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, &log)
		}
	}
	if err := b.Wait(); err == nil || err.Error() != "no space left\ntried 1 times; checkpoint-2 is saved and whole" ||
		b.Last != 2 {
		t.Errorf("got %v, last %d", err, b.Last)
	}
	// Each error is told once, and after it one can save again.
	if err := errors.Join(b.Wait(), b.Poll()); err != nil {
		t.Error(err)
	}
	go func() { release <- nil }()
	if err := errors.Join(b.Start(State{Step: 5}, snapshot(5)), b.Wait()); err != nil || b.Last != 5 ||
		!slices.Equal(saved, []int{2, 5}) {
		t.Errorf("got %v, last %d, saved %v", err, b.Last, saved)
	}
	broken := func() (nn.Values, error) { return nil, errors.New("device lost") }
	if err := b.Start(State{Step: 6}, broken); err == nil || err.Error() != "save checkpoint-6: device lost" {
		t.Errorf("got %v", err)
	}
}

// A save that fails is tried again while training goes on, and a signal ends the pauses.
func TestSaveIsTriedAgain(t *testing.T) {
	full := errors.New("no space left")
	for name, c := range map[string]struct {
		fails []error // of the tries, one after another
		tries int
		want  string
		log   []string
	}{
		"at once": {nil, 1, "", []string{"checkpoint-4 saved"}},
		"later": {
			[]error{full, full}, 3, "", []string{
				"no space left\n  it is tried again at once; checkpoint-2 is saved and whole\n", "checkpoint-4 saved",
			},
		},
		"never": {
			[]error{full, full, full}, 3, "no space left\ntried 3 times; checkpoint-2 is saved and whole", nil,
		},
		"not pruned": {
			[]error{&notPruned{full}}, 1, "", []string{
				"no space left\n  the next save tries again\n", "checkpoint-4 saved",
			},
		},
	} {
		var log strings.Builder
		tries := 0
		stopped := make(chan struct{})
		close(stopped)
		b := &Background{
			Agree: func(err error) error { return err }, Last: 2, Pauses: []time.Duration{time.Hour, time.Hour},
			Hurry: stopped, Logf: func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) },
			Save: func(nn.Values, State) error {
				if tries++; tries <= len(c.fails) {
					return c.fails[tries-1]
				}
				return nil
			},
		}
		err := errors.Join(b.Start(State{Step: 4}, func() (nn.Values, error) { return nil, nil }), b.Wait())
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want || tries != c.tries {
			t.Errorf("%s: got %v after %d tries, want %q after %d", name, err, tries, c.want, c.tries)
		}
		for _, want := range c.log {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s: the log lacks %q:\n%s", name, want, &log)
			}
		}
	}
}
