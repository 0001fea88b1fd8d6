// Package numbers reads the numbers that people write, with errors in words.
package numbers

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Int reads a whole number that a person wrote in digits. Its error says what was wanted, and of numbers that no int
// holds the nearest that one does.
func Int(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err == nil:
		return int(n), nil
	case errors.Is(err, strconv.ErrRange) && n < 0:
		return 0, fmt.Errorf("got %s, want at least %d", text, math.MinInt64)
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("got %s, want at most %d", text, math.MaxInt64)
	}
	return 0, fmt.Errorf("got %q, want a whole number in digits", text)
}

// Uint is Int for numbers of at least 0.
func Uint(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("got %s, want at most %d", text, uint64(math.MaxUint64))
	}
	return 0, fmt.Errorf("got %q, want a whole number of at least 0 in digits", text)
}

// Float reads a finite number that a person wrote.
func Float(text string) (float64, error) {
	x, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("got %s, want a number between %.2g and %.2g", text, -math.MaxFloat64, math.MaxFloat64)
	case err != nil:
		return 0, fmt.Errorf("got %q, want a number", text)
	case math.IsInf(x, 0) || math.IsNaN(x):
		return 0, fmt.Errorf("got %q, want a finite number", text)
	}
	return x, nil
}
