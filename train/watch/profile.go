package watch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"limner/internal/disk"
)

// profileDir is the folder of a run's profile.
const profileDir = "profile"

// profileAfter is how many steps of a process pass before the profile: the first ones also fill caches.
const profileAfter = 2

// profiler traces some steps: what the loop did when, as Chrome's trace viewer and Perfetto read it. It does not sample
// the CPU: the signals of Go's profiler, which also reach XLA's threads, corrupt their memory.
type profiler struct {
	dir    string
	steps  int
	seen   int
	began  time.Time // zero while nothing is traced
	events []traceEvent
}

// traceEvent is a complete event of the trace event format. Times are in microseconds.
type traceEvent struct {
	Name     string         `json:"name"`
	Phase    string         `json:"ph"`
	Start    float64        `json:"ts"`
	Duration float64        `json:"dur"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Args     map[string]any `json:"args,omitempty"`
}

func newProfiler(dir string, steps int) *profiler { return &profiler{dir: dir, steps: steps} }

// active says whether steps are being traced.
func (p *profiler) active() bool { return p != nil && !p.began.IsZero() }

// span notes a piece of a step that began at start and ends now.
func (p *profiler) span(name string, start time.Time) {
	if !p.active() {
		return
	}
	const microsecond = float64(time.Microsecond)
	p.events = append(p.events, traceEvent{
		Name: name, Phase: "X", Start: float64(start.Sub(p.began)) / microsecond,
		Duration: float64(time.Since(start)) / microsecond, Process: 1, Thread: 1,
	})
}

// before comes before each step.
func (p *profiler) before() {
	if p == nil {
		return
	}
	if p.seen++; p.seen == profileAfter+1 {
		p.began = time.Now()
	}
}

// after comes after each step, and says whether the steps to trace are over.
func (p *profiler) after() (done bool) { return p.active() && p.seen >= profileAfter+p.steps }

// waits says whether something was traced that is not written.
func (p *profiler) waits() bool { return p != nil && len(p.events) > 0 }

// stop writes what was traced, once. Where that fails it can be tried again.
func (p *profiler) stop() error {
	if !p.waits() {
		return nil
	}
	p.began = time.Time{}
	raw, err := json.Marshal(map[string]any{"traceEvents": p.events, "displayTimeUnit": "ms"})
	if err == nil {
		err = os.MkdirAll(p.dir, 0o755)
	}
	if err == nil {
		err = disk.WriteFile(filepath.Join(p.dir, "trace.json"), raw, 0o644)
	}
	if err == nil {
		p.events = nil
	}
	return err
}
