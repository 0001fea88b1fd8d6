package step

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"limner/internal/units"
	"limner/xla"
)

// TooLarge is a step that does not fit the memory of a device.
type TooLarge struct {
	need, limit string // with their units; limit is "" where nobody says
	cause       error  // the compiler's, or nil
}

func (e *TooLarge) Error() string {
	if e.limit == "" {
		return e.need
	}
	return fmt.Sprintf("needs %s of %s", e.need, e.limit)
}

func (e *TooLarge) Unwrap() error { return e.cause }

// How compilers say in words that a program does not fit, also under another status code than that of xla.OutOfMemory.
// TPU's says what is needed and what there is, CUDA's what was asked for.
var (
	exhausted = regexp.MustCompile(`RESOURCE_EXHAUSTED|CompileTimeHbmOom|[Oo]ut of memory|exceeds available HBM`)
	hbm       = regexp.MustCompile(`\(([0-9.]+[KMGT]?)\) exceeds available HBM \(([0-9.]+[KMGT]?)\)|Used ([0-9.]+[KMGT]?) of ([0-9.]+[KMGT]?) hbm`)
	asked     = regexp.MustCompile(`[Oo]ut of memory[^\n]*?([0-9.]+ ?(?:[KMGT]i?B|bytes))`)
)

// AsTooLarge is err as a TooLarge if it says that a program does not fit, and nil otherwise.
func AsTooLarge(err error) *TooLarge {
	var large *TooLarge
	if err == nil || errors.As(err, &large) {
		return large
	}
	if xla.OutOfMemory(err) == nil && !exhausted.MatchString(err.Error()) {
		return nil
	}
	if m := hbm.FindStringSubmatch(err.Error()); m != nil {
		return &TooLarge{need: m[1] + m[3], limit: m[2] + m[4], cause: err}
	}
	if m := asked.FindStringSubmatch(err.Error()); m != nil {
		return &TooLarge{need: "needs " + m[1] + " more than there are", cause: err}
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return &TooLarge{need: line, cause: err}
}

// checkMemory fails with a TooLarge if a program of the step, with what the step keeps beside it, takes more of a
// device than it may.
func (s *Step) checkMemory() error {
	if s.Memory == 0 {
		return nil
	}
	state, frozen := s.held(s.stateValues()), s.held(s.frozenValues(s.objective.Frozen))
	need := s.program.Memory().Total()
	if s.gradients != nil {
		parameters := s.held(s.stateValues()[:len(s.objective.Trainable)])
		need = max(need+frozen, s.gradients.Memory().Total()+state-parameters)
	}
	if s.ahead != nil {
		need = max(need+s.held(s.frozenValues(s.objective.Ahead.Frozen)), s.ahead.Memory().Total()+state+frozen)
	}
	if need > s.Memory {
		return &TooLarge{need: units.Bytes(need), limit: units.Bytes(s.Memory)}
	}
	return nil
}

// held are the bytes of arrays on one device.
func (s *Step) held(values []xla.Value) (bytes int64) {
	for _, v := range values {
		size := int64(v.Shape.Memory())
		if v.Sharding != xla.Replicated {
			size /= int64(s.backend.Devices())
		}
		bytes += size
	}
	return bytes
}
