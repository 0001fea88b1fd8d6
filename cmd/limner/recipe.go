package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"limner/internal/numbers"
	"limner/internal/plaintext"
	"limner/internal/suggest"
	"limner/xla/plugin"
)

// recipeFile is a YAML file with values of the command's other flags under their names. Flags on the command line come
// before it, and it before the defaults.
type recipeFile string

// BeforeResolve gives the flags that the command line does not set their values in the file.
func (recipeFile) BeforeResolve(command *kong.Context, trace *kong.Path) error {
	r, err := command.FlagValue(trace.Flag).(recipeFile).read(command)
	if err != nil {
		return err
	}
	command.AddResolver(r)
	return nil
}

func (f recipeFile) read(command *kong.Context) (*recipeReader, error) {
	raw, err := plaintext.ReadFile(string(f), mostRecipe)
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	return readFields(string(f), raw, command)
}

// place says of the settings in an error, one a line, where they stand in the recipe; those of the command line stand
// nowhere.
func (f recipeFile) place(command *kong.Context, err error) error {
	if f == "" {
		return err
	}
	r, failure := f.read(command)
	if failure != nil { // it has changed since it was read first
		return errors.Join(err, failure)
	}
	return r.place(err)
}

// What a recipe may be at most: the time and memory that the YAML parser takes grow with the square of the file and of
// its depth.
const (
	mostRecipe = 1 << 16 // bytes
	mostDepth  = 16      // lists and mappings within each other
)

// whereFlags say where a run lies and not what it is, so a recipe that is written does without them.
var whereFlags = []string{"output-dir", "resume-from-checkpoint", "compilation-cache-dir", "executable"}

// codeFlags name native code, or where it is loaded from. A recipe is passed on, so they are the command line's alone,
// with what to do instead.
var codeFlags = map[string]string{
	"executable": "a recipe names no programs: give --executable FILE on the command line",
	"compilation-cache-dir": "a recipe does not say where compiled programs are loaded from: " +
		"give --compilation_cache_dir DIR on the command line",
}

// isBackendName says whether a backend is one that limner installs, and not the path of a plugin.
func isBackendName(backend string) bool {
	return slices.ContainsFunc(plugin.Wheels(), func(w plugin.Wheel) bool { return w.Name == backend })
}

// commandFlags are the flags of a command that have a value of their own.
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

// recipeReader collects what a recipe says and what is wrong with it. It is kong's source of values.
type recipeReader struct {
	path    string
	command *kong.Context
	flags   []*kong.Flag
	fields  map[string]any          // by the flag's name, for its mapper
	tokens  map[string]*token.Token // of the fields' values
	errs    []error
}

// Resolve is a flag's value; nil where the file has none.
func (r *recipeReader) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	return r.fields[flag.Name], nil
}

// Validate reports everything that is wrong with the file at once, each with its line and column: beside what cannot be
// read, the values of other fields that are out of range. Those alone are left to the command.
func (r *recipeReader) Validate(*kong.Application) error {
	c, ok := r.command.Selected().Target.Interface().(trainer)
	if len(r.errs) == 0 || !ok {
		return errors.Join(r.errs...)
	}
	_, _, err := trainSettings(c, 1, planOf(r.command) != nil)
	return errors.Join(append(r.errs, r.place(err))...)
}

// place puts the lines of an error where they belong in the file.
func (r *recipeReader) place(err error) error {
	if err == nil {
		return nil
	}
	for _, step := range r.command.Path {
		if step.Flag != nil && !step.Resolved {
			delete(r.tokens, step.Flag.Name) // the command line's value came first
		}
	}
	var placed []error
	for _, line := range strings.Split(err.Error(), "\n") {
		names, _, _ := strings.Cut(line, ": ")
		where := ""
		for _, name := range strings.Split(names, ", ") {
			if at := r.tokens[strings.ReplaceAll(name, "_", "-")]; at != nil && where == "" {
				where = fmt.Sprintf("%s:%d:%d: ", r.path, at.Position.Line, at.Position.Column)
			}
		}
		placed = append(placed, errors.New(where+line))
	}
	return errors.Join(placed...)
}

// readFields reads a recipe's values by the names of flags, as kong's mappers take them. It fails where the text is no
// YAML; what else is wrong with it the reader tells.
func readFields(path string, raw []byte, command *kong.Context) (*recipeReader, error) {
	tokens := lexer.Tokenize(string(raw))
	if at := tooDeep(tokens); at != nil {
		return nil, fmt.Errorf("%s:%d:%d: more than %d lists and mappings within each other",
			path, at.Position.Line, at.Position.Column, mostDepth)
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			at := syntax.GetToken().Position
			return nil, fmt.Errorf("%s:%d:%d: %s", path, at.Line, at.Column, syntax.GetMessage())
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := &recipeReader{
		path: path, command: command, flags: commandFlags(command.Selected()), fields: map[string]any{},
		tokens: map[string]*token.Token{},
	}
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
	return r, nil
}

// tooDeep is the token at which lists and mappings are nested deeper than the parser may be given, or nil. Those that
// are nested by indentation are few in a file of bounded size; the others open with brackets, or with dashes in one
// line.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			dashes, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType:
			dashes++
		}
		if brackets > mostDepth || dashes > mostDepth {
			return t
		}
	}
	return nil
}

func (r *recipeReader) bad(at *token.Token, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d:%d: %s",
		r.path, at.Position.Line, at.Position.Column, fmt.Sprintf(format, args...)))
}

// field takes up one line of a recipe.
func (r *recipeReader) field(field *ast.MappingValueNode) {
	at := field.Key.GetToken()
	name := strings.ReplaceAll(at.Value, "_", "-")
	if advice, ok := codeFlags[name]; ok {
		r.bad(at, "%s: %s", at.Value, advice)
		return
	}
	i := slices.IndexFunc(r.flags, func(f *kong.Flag) bool {
		return f.Name == name || slices.Contains(f.Aliases, name)
	})
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
	if text, ok := value.(string); err == nil && ok && flag.Name == "backend" && !isBackendName(text) {
		err = fmt.Errorf("got %q, want cpu, tpu or cuda: a recipe names no plugin, "+
			"give --backend PATH on the command line", text)
	}
	if err != nil {
		r.bad(field.Value.GetToken(), "%s: %v", underscored(flag.Name), err)
		return
	}
	if value != nil {
		r.fields[flag.Name], r.tokens[flag.Name] = value, field.Value.GetToken()
	}
}

// unknown says what may have been meant.
func (r *recipeReader) unknown(at *token.Token, name string) {
	if advice, ok := foreignFlags[name]; ok {
		r.bad(at, "%s: %s", at.Value, advice)
		return
	}
	if passed, ok := passedFlags[name]; ok {
		r.bad(at, "%s: leave it out: %s", at.Value, passed.why)
		return
	}
	var names []string
	for _, flag := range r.flags {
		names = append(names, underscored(flag.Name))
	}
	r.bad(at, "%s is no flag of %s%s", at.Value, r.command.Selected().FullPath(),
		suggest.Near(underscored(name), names))
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
		element, err := listElement(flag.Target.Type().Elem().Kind(), text)
		if err != nil {
			return nil, err
		}
		values = append(values, element)
	}
	return values, nil
}

// listElement is one value of a flag that may be given several times.
func listElement(kind reflect.Kind, text string) (any, error) {
	switch kind {
	case reflect.Int:
		return numbers.Int(text)
	case reflect.Float64:
		return numbers.Float(text)
	}
	return text, nil
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
	if err := flag.Mapper.Decode(&kong.DecodeContext{
		Value: flag.Value, Scan: kong.Scan().PushTyped(value, kong.FlagValueToken),
	}, scratch); err != nil {
		return err
	}
	if choices := flag.EnumSlice(); flag.Enum != "" && !slices.Contains(choices, fmt.Sprint(scratch)) {
		return fmt.Errorf("got %q, want one of %s", fmt.Sprint(scratch), strings.Join(choices, ", "))
	}
	return nil
}

// resolvedRecipe writes down every flag that has a value, but for where the run and native code lie: with --recipe and
// another --output_dir it makes the same run.
func resolvedRecipe(command *kong.Context) ([]byte, error) {
	var fields yaml.MapSlice
	for _, flag := range commandFlags(command.Selected()) {
		value := reflect.Indirect(flag.Target)
		if slices.Contains(whereFlags, flag.Name) || !value.IsValid() || value.IsZero() && !flag.HasDefault {
			continue
		}
		if flag.Name == "backend" && !isBackendName(value.String()) {
			continue // the path of a plugin
		}
		fields = append(fields, yaml.MapItem{Key: underscored(flag.Name), Value: value.Interface()})
	}
	body, err := yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("write recipe: %w", err)
	}
	head := fmt.Sprintf("# %s --recipe recipe.yaml --output_dir DIR makes the same run.\n",
		command.Selected().FullPath())
	return append([]byte(head), body...), nil
}

// underscored is a flag's name as diffusers spells it.
func underscored(name string) string { return strings.ReplaceAll(name, "-", "_") }
