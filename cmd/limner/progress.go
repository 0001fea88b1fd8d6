package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"limner/internal/printable"
)

const (
	barEvery  = 100 * time.Millisecond // the bar is not drawn more often
	lineEvery = 5 * time.Second        // plain lines come at least this often,
	lineApart = time.Second            // and where a tenth of the work is done, but not closer than this
)

// progress shows how far a piece of work is: a bar on a terminal, a line now and then elsewhere. Nothing is shown before the
// first Step.
type progress struct {
	out   *os.File
	label string
	bar   *progressbar.ProgressBar // nil where out is no terminal
	width int                      // of the terminal; 0 if out is none

	begun   time.Time // of the first Step,
	from    int       // which had this number
	printed time.Time
	tenth   int
}

// newProgress makes a progress that writes to out. label says what is being done.
func newProgress(out *os.File, label string) *progress {
	p := &progress{out: out, label: label}
	if fd := int(out.Fd()); term.IsTerminal(fd) {
		p.width, _, _ = term.GetSize(fd)
		if p.width <= 0 { // it does not say
			p.width = 80
		}
	}
	return p
}

// Step says that done of total steps are done. fields are names and values to show beside that, such as "loss 0.1 lr 1e-5".
func (p *progress) Step(done, total int, fields string) {
	fields = printable.Line(fields, printable.LineLimit) // it may hold the name of a file
	now := time.Now()
	if p.begun.IsZero() {
		p.begun, p.from = now, done
	}
	left := ""
	if taken := now.Sub(p.begun); done > p.from && done < total {
		left = duration(taken*time.Duration(total-done)/time.Duration(done-p.from)) + " left"
	}
	if p.width > 0 {
		p.draw(done, total, fields, left)
		return
	}
	tenth := 10 * done / max(total, 1)
	due := now.Sub(p.printed) >= lineEvery || tenth > p.tenth && now.Sub(p.printed) >= lineApart
	if !due && done < total {
		return
	}
	p.printed, p.tenth = now, tenth
	words := []string{fmt.Sprintf("%s: %d of %d", p.label, done, total)}
	for _, word := range []string{fields, left} {
		if word != "" {
			words = append(words, word)
		}
	}
	fmt.Fprintln(p.out, strings.Join(words, ", "))
}

// draw updates the bar, making it at first.
func (p *progress) draw(done, total int, fields, left string) {
	now := time.Now()
	if done < total && now.Sub(p.printed) < barEvery {
		return
	}
	p.printed = now
	size := min(max(p.width/4, 8), 24)
	if p.bar == nil {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionSetWidth(size), progressbar.OptionShowCount(),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false),
			progressbar.OptionShowDescriptionAtLineEnd(), progressbar.OptionUseANSICodes(true),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: " ", BarStart: "│", BarEnd: "│"}))
	}
	words := []string{p.label}
	for _, word := range []string{left, fields} {
		if word != "" {
			words = append(words, word)
		}
	}
	// " 40% │…│ (12/30) " stands before the text; a line that is too long would not be overwritten.
	room := max(p.width-size-2*len(fmt.Sprint(total))-13, 0)
	text := []rune(strings.Join(words, ", "))
	p.bar.Describe(string(text[:min(len(text), room)]))
	_ = p.bar.Set(done) // fails only on a terminal that is gone
}

// Close ends the bar's line.
func (p *progress) Close() error {
	if p.bar == nil {
		return nil
	}
	err := p.bar.Exit()
	p.bar = nil
	fmt.Fprintln(p.out)
	return err
}

// duration writes a time as people say it, without fractions.
func duration(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %02d min", s/3600, s/60%60)
}
