// Package units writes quantities for people to read.
package units

import "fmt"

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
