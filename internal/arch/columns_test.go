package arch

import (
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mostColumns is how long a line of Go or C may be. A tab counts four columns.
const mostColumns = 120

func TestColumns(t *testing.T) {
	var format string
	for _, list := range []string{
		"GoFiles", "CgoFiles", "IgnoredGoFiles", "TestGoFiles", "XTestGoFiles", "CFiles", "HFiles",
	} {
		format += "{{range ." + list + "}}{{$.Dir}}/{{.}}\n{{end}}"
	}
	out, err := exec.Command("go", "list", "-f", format, "limner/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range longLines(source, filepath.Ext(path) == ".go") {
			t.Errorf("%s:%d: more than %d columns", path, line, mostColumns)
		}
	}
}

// longLines lists the numbers of the lines that are too long. In Go a line may be if its 121st column lies in a raw
// string, such as a struct tag, a help text or test data: a line break would be part of its value.
func longLines(source []byte, isGo bool) (lines []int) {
	raw := make([]bool, len(source))
	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(source))
	s.Init(file, source, nil, 0)
	for isGo {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			break
		}
		for i := range text {
			raw[file.Offset(pos)+i] = tok == token.STRING && text[0] == '`'
		}
	}
	column, line := 0, 1
	for i, r := range string(source) {
		before := column
		switch r {
		case '\n':
			column, line = 0, line+1
		case '\t':
			column += 4
		default:
			column++
		}
		if before <= mostColumns && column > mostColumns && !raw[i] {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestLongLines(t *testing.T) {
	x, source := strings.Repeat("x", 200), "package a\n"
	for _, line := range []string{
		"//" + strings.Repeat("é", 118),          // line 2
		"//" + strings.Repeat("x", 119),          // line 3, too long
		strings.Repeat("\t", 29) + "//xx",        // line 4
		strings.Repeat("\t", 29) + "//xxx",       // line 5, too long
		"var a = `" + x + "`",                    // line 6
		"var b = `" + x,                          // line 7
		x + "` +",                                // line 8
		`"` + x + `"`,                            // line 9, too long
		"var c = " + `"` + x + `" + ` + "``",     // line 10, too long
		"var d = ``" + strings.Repeat(" +``", 9), // line 11
	} {
		source += line + "\n"
	}
	if got, want := longLines([]byte(source), true), []int{3, 5, 9, 10}; !slices.Equal(got, want) {
		t.Errorf("got lines %v, want %v", got, want)
	}
	if got, want := longLines([]byte(source), false), []int{3, 5, 6, 7, 8, 9, 10}; !slices.Equal(got, want) {
		t.Errorf("as C: got lines %v, want %v", got, want)
	}
}
