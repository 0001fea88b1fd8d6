package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"limner/models/checkpoint"
)

// recipeFile is a YAML file with values of the command's other flags under their names. Flags on the command line come before
// it, and it before the defaults.
type recipeFile string

// BeforeResolve gives the flags that the command line does not set their values in the file. It reports everything that is
// wrong with the file at once, each with its line and column.
func (recipeFile) BeforeResolve(command *kong.Context, trace *kong.Path) error {
	path := string(command.FlagValue(trace.Flag).(recipeFile))
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	fields, err := recipeFields(path, raw, commandFlags(command.Selected()), command.Selected().FullPath())
	if err != nil {
		return err
	}
	command.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		return fields[flag.Name], nil // nil where the file has none
	}))
	return nil
}

// whereFlags say where a run lies and not what it is, so a recipe that is written does without them.
var whereFlags = []string{"output-dir", "resume-from-checkpoint", "compilation-cache-dir", "executable"}

// commandFlags are the flags that a recipe for a command may set.
func commandFlags(command *kong.Node) []*kong.Flag {
	var flags []*kong.Flag
	for _, group := range command.AllFlags(false) {
		for _, flag := range group {
			if _, ok := flag.Target.Interface().(recipeFile); !ok && flag.Name != "help" {
				flags = append(flags, flag)
			}
		}
	}
	return flags
}

// recipeReader collects what a recipe says and what is wrong with it.
type recipeReader struct {
	path, command string
	flags         []*kong.Flag
	fields        map[string]any // by the flag's name, for its mapper
	errs          []error
}

// recipeFields reads a recipe's values by the names of flags, as kong's mappers take them.
func recipeFields(path string, raw []byte, flags []*kong.Flag, command string) (map[string]any, error) {
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			at := syntax.GetToken().Position
			return nil, fmt.Errorf("%s:%d:%d: %s", path, at.Line, at.Column, syntax.GetMessage())
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := recipeReader{path: path, command: command, flags: flags, fields: map[string]any{}}
	for i, document := range file.Docs {
		switch body := document.Body.(type) {
		case nil, *ast.CommentGroupNode:
		case *ast.MappingNode:
			for _, field := range body.Values {
				r.field(field)
			}
		default:
			r.bad(body.GetToken(), "want lines of the form flag: value")
		}
		if i > 0 {
			r.bad(document.GetToken(), "a second document: a recipe is one")
		}
	}
	return r.fields, errors.Join(r.errs...)
}

func (r *recipeReader) bad(at *token.Token, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d:%d: %s", r.path, at.Position.Line, at.Position.Column, fmt.Sprintf(format, args...)))
}

// field takes up one line of a recipe.
func (r *recipeReader) field(field *ast.MappingValueNode) {
	at := field.Key.GetToken()
	name := strings.ReplaceAll(at.Value, "_", "-")
	i := slices.IndexFunc(r.flags, func(f *kong.Flag) bool { return f.Name == name || slices.Contains(f.Aliases, name) })
	if i < 0 {
		r.unknown(at, name)
		return
	}
	flag := r.flags[i]
	if _, ok := r.fields[flag.Name]; ok {
		r.bad(at, "%s: given twice", underscored(flag.Name))
		return
	}
	value, err := recipeValue(flag, field.Value)
	if err == nil && value != nil {
		err = checkValue(flag, value)
	}
	if err != nil {
		r.bad(field.Value.GetToken(), "%s: %v", underscored(flag.Name), err)
		return
	}
	if value != nil {
		r.fields[flag.Name] = value
	}
}

// unknown says what may have been meant.
func (r *recipeReader) unknown(at *token.Token, name string) {
	if advice, ok := foreignFlags[name]; ok {
		r.bad(at, "%s: %s", at.Value, advice)
		return
	}
	var names []string
	for _, flag := range r.flags {
		names = append(names, underscored(flag.Name))
	}
	r.bad(at, "%s is no flag of %s%s", at.Value, r.command, checkpoint.Suggestion(underscored(name), names))
}

// recipeValue is what a flag's mapper takes: text or, for a flag that may be given several times, a list. null is nil.
func recipeValue(flag *kong.Flag, node ast.Node) (any, error) {
	if _, ok := node.(*ast.NullNode); ok {
		return nil, nil
	}
	if !flag.IsSlice() {
		return scalar(node)
	}
	nodes := []ast.Node{node}
	if list, ok := node.(*ast.SequenceNode); ok {
		nodes = list.Values
	}
	values := []any{}
	for _, node := range nodes {
		text, err := scalar(node)
		if err != nil {
			return nil, err
		}
		element := reflect.New(flag.Target.Type().Elem())
		if element.Elem().Kind() == reflect.String {
			element.Elem().SetString(text)
		} else if err := yaml.Unmarshal([]byte(text), element.Interface()); err != nil {
			return nil, fmt.Errorf("got %q, want numbers", text)
		}
		values = append(values, element.Elem().Interface())
	}
	return values, nil
}

// scalar is a plain value as it is written.
func scalar(node ast.Node) (string, error) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, nil
	case *ast.LiteralNode:
		return node.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, nil
	}
	return "", fmt.Errorf("got a %s, want a plain value", strings.ToLower(node.Type().String()))
}

// checkValue fails where the flag's mapper would, or where the flag has other choices.
func checkValue(flag *kong.Flag, value any) error {
	scratch := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(value, kong.FlagValueToken)}, scratch); err != nil {
		return err
	}
	if choices := flag.EnumSlice(); flag.Enum != "" && !slices.Contains(choices, fmt.Sprint(scratch)) {
		return fmt.Errorf("got %q, want one of %s", fmt.Sprint(scratch), strings.Join(choices, ", "))
	}
	return nil
}

// resolvedRecipe writes down every flag that has a value, but for where the run lies: with --recipe and another --output_dir
// it makes the same run.
func resolvedRecipe(command *kong.Context) ([]byte, error) {
	var fields yaml.MapSlice
	for _, flag := range commandFlags(command.Selected()) {
		value := reflect.Indirect(flag.Target)
		if slices.Contains(whereFlags, flag.Name) || !value.IsValid() || value.IsZero() && !flag.HasDefault {
			continue
		}
		fields = append(fields, yaml.MapItem{Key: underscored(flag.Name), Value: value.Interface()})
	}
	body, err := yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("write recipe: %w", err)
	}
	head := fmt.Sprintf("# %s --recipe recipe.yaml --output_dir DIR makes the same run.\n", command.Selected().FullPath())
	return append([]byte(head), body...), nil
}

// underscored is a flag's name as diffusers spells it.
func underscored(name string) string { return strings.ReplaceAll(name, "-", "_") }
