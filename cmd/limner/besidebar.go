package main

import (
	"os"

	"limner/internal/printable"
)

// besideBar writes lines to stderr without breaking into a bar that is there, which the next step draws again.
type besideBar struct {
	bar func() *progress // nil where there is none
}

func (w besideBar) Write(lines []byte) (int, error) {
	if p := w.bar(); p != nil && p.bar != nil {
		if p.bar.IsFinished() {
			_ = p.Close() // of a terminal that is gone
		} else {
			_ = p.bar.Clear()
		}
	}
	return printable.Writer{To: os.Stderr}.Write(lines)
}
