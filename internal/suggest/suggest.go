// Package suggest finds the known name that an unknown one was probably meant to be.
package suggest

import (
	"strings"
)

// Near suggests the nearest to name of several dotted names, if it is near.
func Near(name string, among []string) string {
	best, cost := "", 0.0
	for _, other := range among {
		if c, ok := distance(name, other); ok && (best == "" || c < cost || c == cost && other < best) {
			best, cost = other, c
		}
	}
	if best == "" {
		return ""
	}
	return " (is it " + best + "?)"
}

// maxName is the length from which a name is not compared.
const maxName = 512

// near is the largest share of changed letters in a part for names to be near.
const near = 0.6

// distance compares names part by part: a changed part costs the share of its letters that changed. Names that differ
// in more than two parts, or in a number, are not near.
func distance(a, b string) (float64, bool) {
	if len(a) > maxName || len(b) > maxName || a == b {
		return 0, a == b
	}
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	// The parts that changed remain once the common ones at both ends are removed.
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	if len(x) > 2 || len(y) > 2 {
		return 0, false
	}
	p, q := strings.Join(x, "."), strings.Join(y, ".")
	if isNumber(p) || isNumber(q) {
		return 0, false
	}
	c := float64(Edits(p, q)) / float64(max(len(p), len(q)))
	// something was added to one part
	if len(x) <= strings.Count(a, ".") && (strings.Contains(p, q) || strings.Contains(q, p)) {
		c = min(c, near)
	}
	return c, c <= near
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Edits is the number of letters to insert, delete or change to turn one text into the other (Levenshtein 1966).
func Edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			c := diagonal
			if a[i] != b[j] {
				c++
			}
			diagonal = row[j+1]
			row[j+1] = min(c, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
