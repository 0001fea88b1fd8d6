package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"limner/data/build"
	"limner/internal/disk"
	"limner/internal/printable"
	"limner/internal/refusal"
	"limner/sample/batch"
	"limner/train"
)

// Exit codes, beside 0 for done and 1 for anything that is not listed.
const (
	exitUsage       = 2
	exitWarnings    = 3  // limner data check has found what makes a result worse; notes alone exit with 0
	exitErrors      = 4  // limner data check has found rows that are not trained on, or held-out ones that are
	exitInterrupted = 75 // stopped early with everything saved: run again to go on
	exitConfig      = 78 // a model or a dataset cannot be used as asked
)

// usageError is a mistake in the command line that only the command itself could see.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// report prints an error, if there is one, and returns the exit code.
func report(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "limner: %s\n", errorText(err))
	}
	return exitCode(err)
}

// mostErrorLines is how many lines of an error are printed.
const mostErrorLines = 200

// errorText is an error as it is printed: its lines, in which names and texts of files stand that may be anything,
// below each other.
func errorText(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if more := len(lines) - mostErrorLines; more > 0 {
		lines = append(lines[:mostErrorLines], fmt.Sprintf("… and %d more lines", more))
	}
	for i, line := range lines {
		lines[i] = printable.Text(line, printable.LineLimit)
	}
	return strings.Join(lines, "\n  ")
}

func exitCode(err error) int {
	var usage usageError
	var badOption batch.UsageError
	var checked checkedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &checked):
		return checked.code()
	case errors.Is(err, disk.ErrNotRegular): // whichever flag names it, or a folder that a flag names holds it
		return exitConfig
	case errors.As(err, &usage), errors.As(err, &badOption):
		return exitUsage
	case errors.Is(err, train.ErrInterrupted), errors.Is(err, batch.ErrInterrupted),
		errors.Is(err, build.ErrInterrupted):
		return exitInterrupted
	case errors.As(err, new(refusal.Error)):
		return exitConfig
	}
	return 1
}
