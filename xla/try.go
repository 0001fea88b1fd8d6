package xla

import (
	"fmt"
	"runtime"
)

// Try runs f and turns a panic into an error. GoMLX reports mistakes in a graph, and failures to compile, by
// panicking; this is the one place where that ends. A runtime.Error is a bug of ours and goes on.
func Try(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			panic(r)
		case error:
			err = r
		default:
			err = fmt.Errorf("%v", r)
		}
	}()
	f()
	return nil
}
