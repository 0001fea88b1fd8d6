// Package patch repairs what GoMLX v0.26.0 and go-xla v0.1.4 lack for training: buffers that are really donated,
// the gradient of a matrix product, and gradients that are missing.
//
// Each repair has a test that fails when an upgrade makes the repair wrong or needless. What must be read from
// unexported fields, or set in them, is in layout.go alone, by name and type, so that another layout is an error and
// never a wrong result.
package patch
