package batch

import (
	"errors"
	"fmt"
	"strings"
)

// axis are the values that a setting takes along one side of a sheet.
type axis struct {
	Name   string
	Values []string
}

// sheet is what --xy asks for: a column for each value of the first axis and a row for each of the second.
type sheet struct {
	Title string
	X, Y  axis
	cells []Settings // row by row
}

// sheet reads --xy.
func (c *Options) sheet() (*sheet, error) {
	var errs []error
	if len(c.XY) > 2 {
		errs = append(errs, fmt.Errorf("--xy is given %d settings: a sheet has two sides", len(c.XY)))
	}
	if c.NumImages != 1 || c.PromptFile != "" || len(c.Prompt) > 1 {
		errs = append(errs, errors.New("--xy samples one prompt once for each place: "+
			"leave out --num_images, --prompt_file and further prompts"))
	}
	axes := make([]axis, 2)
	axes[1] = axis{Values: []string{""}}
	for i, text := range c.XY[:min(len(c.XY), 2)] {
		name, values, ok := strings.Cut(text, "=")
		if !ok || name == "" || values == "" {
			errs = append(errs, fmt.Errorf("--xy %s: want NAME=A,B,…", text))
			continue
		}
		separator := ","
		if strings.Contains(values, "|") {
			separator = "|"
		}
		axes[i] = axis{Name: name, Values: strings.Split(values, separator)}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if x, y := len(axes[0].Values), len(axes[1].Values); x*y > mostImages {
		return nil, fmt.Errorf("--xy: %d × %d images: want at most %d", x, y, mostImages)
	}
	s := &sheet{Title: strings.Join(c.Prompt, ""), X: axes[0], Y: axes[1]}
	for _, y := range s.Y.Values {
		for _, x := range s.X.Values {
			d := c.Settings
			for _, err := range []error{s.X.set(&d, x), s.Y.set(&d, y)} {
				if err != nil {
					errs = append(errs, fmt.Errorf("--xy: %w", err))
				}
			}
			s.cells = append(s.cells, d)
		}
	}
	return s, joinDistinct(errs)
}

// set gives an image a value of the axis.
func (a axis) set(d *Settings, value string) error {
	if a.Name == "" {
		return nil
	}
	return d.change(a.Name, strings.TrimSpace(value))
}

// label says what a row or a column has.
func (a axis) label(value string) string {
	if a.Name == "" {
		return ""
	}
	value = strings.TrimSpace(value)
	if name := strings.ReplaceAll(a.Name, "-", "_"); name == controlFlag || name == "_cn" {
		value = baseName(value) // sheets carry no paths
	}
	return a.Name + " " + value
}
