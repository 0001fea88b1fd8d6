package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"limner/internal/printable"
)

const (
	barEvery     = 100 * time.Millisecond // the bar is not drawn more often
	lineEvery    = 5 * time.Second        // plain lines come at least this often at first,
	lineApart    = time.Second            // and where a tenth of the work is done, but not closer than this;
	firstMinutes = 2 * time.Minute        // after these
	laterEvery   = time.Minute            // they come this often
)

// progress shows how far a piece of work is: a bar on a terminal, a line now and then elsewhere. Nothing is shown
// before the first Step.
type progress struct {
	out   *os.File
	label string
	bar   *progressbar.ProgressBar // nil where out is no terminal
	width int                      // of the terminal when the bar was made; 0 if out is none

	begun   time.Time // of the first Step,
	from    int       // which had this number
	printed time.Time
	tenth   int
}

// newProgress makes a progress that writes to out. label says what is being done.
func newProgress(out *os.File, label string) *progress {
	p := &progress{out: out, label: label}
	if term.IsTerminal(int(out.Fd())) {
		p.width = p.columns()
	}
	return p
}

// columns is the terminal's width.
func (p *progress) columns() int {
	if width, _, err := term.GetSize(int(p.out.Fd())); err == nil && width > 0 {
		return width
	}
	return 80 // it does not say
}

// Step says that done of total steps are done. fields are names and values to show beside that, such as "loss 0.1 lr
// 1e-5".
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
	apart := now.Sub(p.printed)
	due := apart >= lineEvery || tenth > p.tenth && apart >= lineApart
	if now.Sub(p.begun) > firstMinutes {
		due = apart >= laterEvery
	}
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
	if width := p.columns(); width != p.width {
		p.width = width
		if p.bar != nil { // of the width before
			_ = p.bar.Clear()
			p.bar = nil
		}
	}
	size := min(max(p.width/10, 6), 24)
	if p.bar == nil {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionSetWidth(size), progressbar.OptionShowCount(),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false),
			progressbar.OptionShowDescriptionAtLineEnd(), progressbar.OptionUseANSICodes(true),
			progressbar.OptionSetTheme(progressbar.Theme{
				Saucer: "█", SaucerPadding: " ", BarStart: "│", BarEnd: "│",
			}))
	}
	// " 40% │…│ (12/30) " stands before the text; a line that is too long would not be overwritten.
	room := max(p.width-size-2*len(fmt.Sprint(total))-13, 0)
	p.bar.Describe(fitting(room, p.label, left, fields))
	_ = p.bar.Set(done) // fails only on a terminal that is gone
}

// fitting is the text behind the bar, of at most room columns: what is left comes before the first field, that before
// the label, and that before the other fields.
func fitting(room int, label, left, fields string) string {
	pairs := strings.Fields(fields)
	first, more := strings.Join(pairs[:min(2, len(pairs))], " "), pairs[min(2, len(pairs)):]
	text := func(label string) string {
		var words []string
		for _, word := range []string{label, left, first} {
			if word != "" {
				words = append(words, word)
			}
		}
		return strings.Join(words, ", ")
	}
	out := text(label)
	if utf8.RuneCountInString(out) > room {
		short := []rune(text(""))
		return string(short[:min(len(short), room)])
	}
	for pair := range slices.Chunk(more, 2) {
		next := out + " " + strings.Join(pair, " ")
		if utf8.RuneCountInString(next) > room {
			break
		}
		out = next
	}
	return out
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
