package condition

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDocs checks that docs/data.md lists every kind of condition as it is.
func TestDocs(t *testing.T) {
	raw, err := os.ReadFile("../../docs/data.md")
	if err != nil {
		t.Fatal(err)
	}
	table := "| condition, with its defaults | what it shows | parameters |\n|---|---|---|\n"
	for _, k := range Kinds() {
		var parameters []string
		for _, p := range k.Parameters {
			values := p.text(p.Least) + " to " + p.text(p.Most)
			if p.Words != nil {
				values = strings.Join(p.Words, ", ")
			}
			parameters = append(parameters, fmt.Sprintf("`%s` (%s): %s", p.Name, values, p.Help))
		}
		table += fmt.Sprintf("| `%s` | %s | %s |\n", k.Usage(), k.Help, strings.Join(parameters, "<br>"))
	}
	if !strings.Contains(string(raw), table) {
		t.Errorf("docs/data.md has no such table:\n%s", table)
	}
}
