package xla

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"limner/internal/disk"
)

// Expected is how long compiling a program is expected to take; 0 where that is not known.
type Expected time.Duration

// String is what to put behind the announcement of a program, to one significant figure: ", about 20 s". Of what is
// unknown or takes less than a second it is nothing.
func (e Expected) String() string {
	seconds := time.Duration(e).Seconds()
	if seconds < 1 {
		return ""
	}
	unit := math.Pow10(int(math.Floor(math.Log10(seconds))))
	return fmt.Sprintf(", about %.0f s", math.Round(seconds/unit)*unit)
}

// timesName is the file of the cache's folder that says how long programs took to compile, the newest last.
const timesName = "compile-times.json"

// maxTimes is how many it holds.
const maxTimes = 256

// maxTimesSize is more bytes than it then has.
const maxTimesSize = 1 << 20

// compileTime is one of them.
type compileTime struct {
	Program    programKey `json:"program"`    // without its text and options: whatever its sizes are
	Operations int        `json:"operations"` // of its text, which tell networks from each other
	Seconds    float64    `json:"seconds"`
}

func newCompileTime(key programKey, operations int, took time.Duration) compileTime {
	key.Program, key.Options = "", ""
	return compileTime{key, operations, took.Seconds()}
}

// sameMachine says whether both were compiled by one compiler for devices of one kind, as far as the keys tell.
func (t compileTime) sameMachine(o compileTime) bool {
	return t.Program.Plugin == o.Program.Plugin && t.Program.Device == o.Program.Device &&
		t.Program.Processor == o.Program.Processor
}

// growth is the power of a program's operations that the time of compiling it goes with, as measured on programs of 280
// to 59,000: large ones have more that is small.
const growth = 0.7

// expected is what compiling a program took here the last time, whatever its sizes were then, or else what the most
// similar one makes expect, or else what is known of the compiler.
func (s *store) expected(key programKey, operations int) Expected {
	want := newCompileTime(key, operations, 0)
	const similar = 8 // times as many operations, or as few
	nearest, seconds := math.Log(similar), usualSeconds(key.Device, operations)
	for _, t := range s.times() {
		off := math.Abs(math.Log(float64(t.Operations) / float64(operations)))
		if t.Program == want.Program && t.Operations == operations {
			off = -1 // nothing is nearer
		}
		if t.sameMachine(want) && off <= nearest {
			nearest, seconds = off, t.Seconds*math.Pow(float64(operations)/float64(t.Operations), growth)
		}
	}
	return Expected(seconds * float64(time.Second))
}

// usualSeconds are those of machines with two cores, and less with more, as far as compilers keep them busy: XLA:CPU
// takes 5.3 s for the 5,000 operations of Stable Diffusion 1.5's UNet, and libtpu a quarter of an hour for the 38,000
// of its ControlNet's training step.
func usualSeconds(device string, operations int) float64 {
	const mostCores = 16
	seconds := 0.0
	switch {
	case device == "cpu":
		seconds = 5.3 * math.Pow(float64(operations)/5000, growth)
	case strings.HasPrefix(device, "TPU"):
		seconds = 900 * math.Pow(float64(operations)/38000, growth)
	}
	return seconds * 2 / float64(min(runtime.NumCPU(), mostCores))
}

// times reads the file. One that is not there or damaged is empty: it only helps to guess.
func (s *store) times() []compileTime {
	if !s.open() {
		return nil
	}
	var times []compileTime
	raw, err := disk.ReadFile(filepath.Join(s.folder, timesName), maxTimesSize)
	if err != nil || json.Unmarshal(raw, &times) != nil {
		return nil
	}
	return slices.DeleteFunc(times, func(t compileTime) bool { return !(t.Operations > 0 && t.Seconds >= 0) })
}

// took notes how long a program took to compile, in place of the last time. Where that cannot be written, the next
// guess is worse.
func (s *store) took(key programKey, operations int, d time.Duration) {
	s.timing.Lock()
	defer s.timing.Unlock()
	now := newCompileTime(key, operations, d)
	times := slices.DeleteFunc(s.times(), func(t compileTime) bool {
		return t.Program == now.Program && t.Operations == operations
	})
	times = append(times, now)
	raw, err := json.MarshalIndent(times[max(0, len(times)-maxTimes):], "", " ")
	if err == nil && s.open() && operations > 0 {
		_ = disk.WriteFile(filepath.Join(s.folder, timesName), raw, 0o600)
	}
}
