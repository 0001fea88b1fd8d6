package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// otherFlags are those that messages name beside flags of commands: of other programs, of limner itself, and switches
// of prompt files.
var otherFlags = []string{
	"repo-type", "local-dir", "exclude", "sync-tensorboard", "project", "entity", "version", "cn", "ss",
}

// commandsOf are the commands whose users read the messages of a package; those of any other package all may.
var commandsOf = map[string][]string{
	"train": {"train", "plan"}, "sample": {"sample", "plan", "train", "demo"}, "plan": {"plan"},
	"data": {"data", "train"},
	"demo": {"demo", "base", "sample", "data"},
}

// A flag that a message or a help text names is one of the command that says it, so that what is suggested works.
func TestNamedFlagsExist(t *testing.T) {
	k, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]map[string]bool{} // by command
	for _, command := range k.Model.Leaves(false) {
		name := strings.Fields(command.FullPath())[1]
		if flags[name] == nil {
			flags[name] = map[string]bool{}
		}
		for _, group := range command.AllFlags(false) {
			for _, flag := range group {
				addNames(flags[name], flag)
			}
		}
	}
	root := filepath.Join("..", "..")
	named := 0
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" ||
			filepath.Dir(path) == root && slices.Contains([]string{"bench", "internal", "xla"}, entry.Name())) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		commands := commandsOf[strings.Split(filepath.ToSlash(relative), "/")[0]]
		if commands == nil {
			commands = slices.Collect(maps.Keys(flags))
		}
		for _, flag := range flagsIn(file) {
			named++
			known := slices.Contains(otherFlags, flag) || foreignFlags[flag] != "" ||
				slices.ContainsFunc(commands, func(command string) bool { return flags[command][flag] })
			if !known {
				t.Errorf("%s names --%s, which none of limner %s has", relative, underscored(flag),
					strings.Join(slices.Sorted(slices.Values(commands)), ", "))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if named < 100 {
		t.Errorf("%d flags are named: the test does not see what it should", named)
	}
}

// addNames adds all the ways to give a flag.
func addNames(names map[string]bool, flag *kong.Flag) {
	names[flag.Name] = true
	if flag.Tag.Negatable != "" {
		names["no-"+flag.Name] = true
	}
	for _, alias := range flag.Aliases {
		names[alias] = true
	}
}

// namedFlag is a flag as texts name it, apart from dashes and rules of other kinds.
var namedFlag = regexp.MustCompile(`(?:^|[\s"'(=,;:])--([a-z][a-z0-9_-]*[a-z0-9])`)

// flagsIn are the flags that the texts of a file name, with dashes.
func flagsIn(file *ast.File) []string {
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			return true
		}
		for _, m := range namedFlag.FindAllStringSubmatch(text, -1) {
			names = append(names, strings.ReplaceAll(m[1], "_", "-"))
		}
		return true
	})
	return names
}
