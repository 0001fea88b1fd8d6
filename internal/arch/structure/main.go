// Command structure measures the structure of the module's packages: files, lines, the largest function, and how the
// files of a package refer to each other.
//
// A reference is a pair of files of which the first names something that the second declares. The files are put in an
// order, by a greedy search, in which few references lead from a file to one above it; those run back up. Tests do not
// count.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "structure:", err)
		os.Exit(1)
	}
}

func run(patterns []string) error {
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	packages, exports, err := list(patterns)
	if err != nil {
		return err
	}
	fmt.Printf("%-28s %5s %6s %9s  %-32s %10s %7s\n",
		"package", "files", "lines", "functions", "largest function (lines)", "references", "back up")
	var files, lines int
	for _, p := range packages {
		m, err := measure(p, exports)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		fmt.Println(m)
		files, lines = files+m.files, lines+m.lines
	}
	fmt.Printf("%-28s %5d %6d\n", "all", files, lines)
	return nil
}

// listed is a package as go list describes it.
type listed struct {
	ImportPath, Dir, Export string
	DepOnly                 bool
	GoFiles, CgoFiles       []string
}

// list returns the packages that match the patterns, and the files of export data of all that they import.
func list(patterns []string) (packages []listed, exports map[string]string, err error) {
	command := exec.Command("go",
		append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,DepOnly,GoFiles,CgoFiles"},
			patterns...)...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go list: %w", err)
	}
	exports = map[string]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			packages = append(packages, p)
		}
	}
	slices.SortFunc(packages, func(a, b listed) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return packages, exports, nil
}

// measured is one row of the table.
type measured struct {
	name                    string
	files, lines, functions int
	largest                 string
	largestLines            int
	references, back        int
}

func (m measured) String() string {
	largest := fmt.Sprintf("%s (%d)", m.largest, m.largestLines)
	return fmt.Sprintf("%-28s %5d %6d %9d  %-32s %10d %7d",
		m.name, m.files, m.lines, m.functions, largest, m.references, m.back)
}

func measure(p listed, exports map[string]string) (measured, error) {
	m := measured{name: p.ImportPath}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range append(slices.Clone(p.GoFiles), p.CgoFiles...) {
		file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return m, err
		}
		files = append(files, file)
		m.files++
		m.lines += fset.File(file.Pos()).LineCount()
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			m.functions++
			if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > m.largestLines {
				m.largest, m.largestLines = f.Name.Name, n
			}
		}
	}
	found := references(fset, p.ImportPath, files, exports)
	m.references, m.back = len(found), len(feedback(found))
	return m, nil
}

// reference leads from the file that names something to the one that declares it.
type reference struct{ from, to string }

// references are the pairs of a package's files, sorted.
func references(fset *token.FileSet, path string, files []*ast.File, exports map[string]string) []reference {
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{
		FakeImportC: true,
		Error:       func(error) {}, // declarations of C have no type here; the rest is checked
		Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
			if exports[path] == "" {
				return nil, fmt.Errorf("no export data of %s", path)
			}
			return os.Open(exports[path])
		}),
	}
	pkg, _ := config.Check(path, fset, files, &info)
	found := map[reference]bool{}
	for name, object := range info.Uses {
		if object.Pkg() != pkg || !object.Pos().IsValid() || object.Parent() != pkg.Scope() && !isMember(object) {
			continue
		}
		r := reference{fset.Position(name.Pos()).Filename, fset.Position(object.Pos()).Filename}
		if r.from != r.to {
			found[r] = true
		}
	}
	var all []reference
	for r := range found {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b reference) int {
		return cmp.Or(strings.Compare(a.from, b.from), strings.Compare(a.to, b.to))
	})
	return all
}

// isMember reports whether an object is a method or a field, which are in no scope.
func isMember(object types.Object) bool {
	switch object := object.(type) {
	case *types.Func:
		return object.Signature().Recv() != nil
	case *types.Var:
		return object.IsField()
	}
	return false
}

// feedback are the references that lead upwards in an order of the files that Eades, Lin and Smyth's greedy search
// finds (1993): sources first, sinks last, and where there are neither, the file with the most references out of it
// over those to it.
func feedback(references []reference) []reference {
	place := order(references)
	var back []reference
	for _, r := range references {
		if place[r.from] > place[r.to] {
			back = append(back, r)
		}
	}
	return back
}

// order gives each file its place, from the top.
func order(references []reference) map[string]int {
	var left []string
	for _, r := range references {
		left = append(left, r.from, r.to)
	}
	slices.Sort(left)
	left = slices.Compact(left)
	var top, bottom []string
	for len(left) > 0 {
		in, out := map[string]int{}, map[string]int{}
		for _, r := range references {
			if slices.Contains(left, r.from) && slices.Contains(left, r.to) {
				in[r.to]++
				out[r.from]++
			}
		}
		pick := func(is func(string) bool) (string, bool) {
			i := slices.IndexFunc(left, is)
			if i < 0 {
				return "", false
			}
			return left[i], true
		}
		file, ok := pick(func(f string) bool { return out[f] == 0 })
		if ok {
			bottom = append(bottom, file)
		} else if file, ok = pick(func(f string) bool { return in[f] == 0 }); ok {
			top = append(top, file)
		} else {
			file = slices.MaxFunc(left, func(a, b string) int { return (out[a] - in[a]) - (out[b] - in[b]) })
			top = append(top, file)
		}
		left = slices.DeleteFunc(left, func(f string) bool { return f == file })
	}
	slices.Reverse(bottom)
	place := map[string]int{}
	for i, file := range append(top, bottom...) {
		place[file] = i
	}
	return place
}
