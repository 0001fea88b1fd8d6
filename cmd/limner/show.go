package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/printable"
	"limner/internal/refusal"
	"limner/internal/units"
	"limner/models/checkpoint"
)

type showCmd struct {
	Path string `arg:"" placeholder:"FILE|DIR" help:"Weights of any kind, a folder in diffusers' layout, or an image."`
	All  bool   `help:"List every tensor; without it, tensors that differ only in numbers share a line."`
	JSON bool   `name:"json" help:"Print all of it as JSON, but of an image as much as without it."`
}

// Help shows one working example.
func (showCmd) Help() string {
	return `Example:

  limner show v1-5-pruned-emaonly.safetensors

Files are told by their content, not by their names: whole models and networks in the naming of diffusers and of the original code,
Flax weights, LoRAs and textual inversions. Of an image it prints what it says of itself, as limner sample and A1111's web UI write it.`
}

// What is printed of a file at most. All of a file of weights is printed where it is asked for as JSON, an image's
// texts never are.
const (
	mostShownText   = 1 << 15 // bytes of a text of an image
	mostShownString = 4000    // of each string in it
	mostShownValue  = 1000    // of metadata
	mostShownName   = 200

	mostShownEntries = 20   // of each list and object of an image's record
	mostShownValues  = 1000 // of all of them
)

func (c showCmd) Run() error {
	if texts, ok, err := imageTexts(c.Path); ok || err != nil {
		return showTexts(c.Path, texts, c.JSON, err)
	}
	d, err := checkpoint.Describe(c.Path)
	if err != nil {
		return refusal.Error{Err: err}
	}
	if c.JSON {
		return printJSON(d)
	}
	_, err = fmt.Print(describe(d, c.All))
	return err
}

// imageTexts reads what an image says of itself; ok is whether the file is one.
func imageTexts(path string) (texts []imaging.Text, ok bool, err error) {
	file, err := disk.Open(path)
	if err != nil {
		return nil, false, nil // Describe says what is wrong
	}
	defer file.Close()
	head := make([]byte, 16)
	if n, err := io.ReadFull(file, head); err != nil || !imaging.IsImage(head[:n]) {
		return nil, false, nil
	}
	raw, err := imaging.ReadFile(path)
	if err != nil {
		return nil, true, fmt.Errorf("show: %w", err)
	}
	texts, err = imaging.Texts(raw)
	return texts, true, err
}

// showTexts prints what an image says of itself.
func showTexts(path string, texts []imaging.Text, asJSON bool, err error) error {
	if err != nil {
		return refusal.Errorf("%s: %w", path, err)
	}
	if len(texts) == 0 {
		return refusal.Errorf("%s says nothing of itself: its text was never there, "+
			"or was taken out on its way here", path)
	}
	all := map[string]any{}
	values := &cutter{left: mostShownValues}
	for i, text := range texts {
		if i == mostShownEntries {
			all["…"] = fmt.Sprintf("%d more texts", len(texts)-i)
			break
		}
		all[printable.Line(text.Key, mostShownName)] = values.text(text)
	}
	if asJSON {
		return printJSON(all)
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		value, isText := all[key].(string)
		if !isText {
			raw, err := json.MarshalIndent(all[key], "", "  ")
			if err != nil {
				return err
			}
			value = string(raw)
		}
		fmt.Printf("%s\n  %s\n", key, strings.ReplaceAll(printable.Text(value, mostShownText), "\n", "\n  "))
	}
	return nil
}

func printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := os.Stdout.Write(printable.JSON(b.Bytes()))
	return err
}

// describe is the text that limner show prints.
func describe(d checkpoint.Description, all bool) string {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", name, printable.Line(value, mostShownValue))
		}
	}
	field("file", d.Path)
	field("format", d.Format)
	kind := string(d.Kind)
	if d.Dialect != "" {
		kind += fmt.Sprintf(", named as by %s", d.Dialect)
	}
	if d.EMA {
		kind += ", with EMA's weights too, which are passed over for the plain ones as by diffusers"
	}
	if d.Difference {
		kind += ", a difference to the model it was made for"
	}
	field("kind", kind)
	family := string(d.Family)
	if d.Inpainting {
		family += " inpainting"
	}
	if d.Variant != "" {
		family += " " + d.Variant + ", not supported"
	}
	if len(d.Reasons) > 0 {
		family += " (" + strings.Join(d.Reasons, "; ") + ")"
	}
	field("family", family)
	if len(d.Components) > 0 {
		fmt.Fprintln(&b, "\ncomponents")
	}
	for _, p := range d.Components {
		fmt.Fprintln(&b, "  "+describePart(p))
	}
	if len(d.Metadata) > 0 {
		fmt.Fprintln(&b, "\nmetadata")
	}
	for i, key := range slices.Sorted(maps.Keys(d.Metadata)) {
		if i == foldedLines && !all {
			fmt.Fprintf(&b, "  … and %d more: --all lists all\n", len(d.Metadata)-i)
			break
		}
		fmt.Fprintf(&b, "  %s: %s\n", printable.Line(key, mostShownName),
			printable.Line(d.Metadata[key], mostShownValue))
	}
	fmt.Fprintf(&b, "\ntensors (%d)\n", len(d.Tensors))
	for _, line := range tensorLines(d.Tensors, all) {
		fmt.Fprintln(&b, "  "+line)
	}
	return b.String()
}

func describePart(p checkpoint.Part) string {
	if p.Problem != "" {
		return fmt.Sprintf("%-15s %s", p.Name, printable.Line(p.Problem, mostShownValue))
	}
	dtypes := slices.Sorted(maps.Keys(p.DTypes))
	line := fmt.Sprintf("%-15s %14s parameters  %s", p.Name, units.Count(p.Parameters), strings.Join(dtypes, " "))
	if p.Layers > 0 {
		line += fmt.Sprintf("  %d layers of rank %s", p.Layers, strings.Trim(fmt.Sprint(p.Ranks), "[]"))
	}
	return printable.Line(line, mostShownValue)
}

// foldedLines is how many lines of tensors, and of metadata, are printed unless all are asked for.
const foldedLines = 60

// tensorLines lists tensors. Unless all are asked for, those whose keys differ in numbers alone and that
// have the same dtype and shape share a line.
func tensorLines(tensors []checkpoint.TensorInfo, all bool) []string {
	counts := map[string]int{}
	var lines []string
	for _, t := range tensors {
		key := t.Key
		if !all {
			key = keyNumbers.ReplaceAllString(key, "$1#")
		}
		line := fmt.Sprintf("%-4s %s  %s", printable.Line(t.DType, mostShownName),
			printable.Line(fmt.Sprint(t.Shape), mostShownName), printable.Line(key, mostShownName))
		if counts[line]++; counts[line] == 1 {
			lines = append(lines, line)
		}
	}
	for i, line := range lines {
		if n := counts[line]; n > 1 {
			lines[i] = fmt.Sprintf("%s  ×%d", line, n)
		}
	}
	if more := len(lines) - foldedLines; more > 0 && !all {
		lines = append(lines[:foldedLines], fmt.Sprintf("… and %d more kinds: --all lists every tensor", more))
	}
	return lines
}

// keyNumbers matches the parts of a key that are numbers, in anybody's naming.
var keyNumbers = regexp.MustCompile(`([._/])\d+`)
