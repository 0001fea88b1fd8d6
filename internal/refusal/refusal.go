// Package refusal tells what was asked for and cannot be done from what went wrong.
package refusal

import "fmt"

// Error says that a job cannot be done as asked, such as with that model or that dataset: nothing was begun.
type Error struct{ Err error }

// Errorf makes an Error as [fmt.Errorf] makes an error.
func Errorf(format string, args ...any) error { return Error{fmt.Errorf(format, args...)} }

func (e Error) Error() string { return e.Err.Error() }

// Unwrap is the error of which it is made.
func (e Error) Unwrap() error { return e.Err }
