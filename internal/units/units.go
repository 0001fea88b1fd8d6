// Package units writes quantities for people to read.
package units

import (
	"fmt"
	"strconv"
)

// Count is a number in digits, the thousands grouped: 1,234,567.
func Count(n int) string {
	text := strconv.Itoa(n)
	first := 0 // of the digits
	if n < 0 {
		first = 1
	}
	for at := len(text) - 3; at > first; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// Bytes is a number of bytes in decimal units: kB, MB or GB.
func Bytes(n int64) string {
	switch {
	case n < 1e6:
		return fmt.Sprintf("%d kB", n/1e3)
	case n < 1e8:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
