package batch

import (
	"errors"
)

// ErrInterrupted says that a List was stopped early with everything saved.
var ErrInterrupted = errors.New("stopped early")

// UsageError is a setting that is wrong in itself or for the model, the devices or the folder.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

func (e UsageError) Unwrap() error { return e.Err }

// joinDistinct joins errors and says each once.
func joinDistinct(errs []error) error {
	said := map[string]bool{}
	var out []error
	for _, err := range errs {
		if err != nil && !said[err.Error()] {
			said[err.Error()] = true
			out = append(out, err)
		}
	}
	return errors.Join(out...)
}
