package checkpoint

import (
	"fmt"
	"strings"
)

// listed is how many lines of a list an error shows.
const listed = 20

// list writes lines below an error's first, the first of them only where they are many.
func list(lines []string) string {
	shown := lines[:min(len(lines), listed)]
	text := "\n  " + strings.Join(shown, "\n  ")
	if more := len(lines) - len(shown); more > 0 {
		text += fmt.Sprintf("\n  … and %d more", more)
	}
	return text
}
