package batch

import (
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"

	"limner/data/imaging"
	"limner/sample"
)

// sheetFile is the labelled sheet of --xy, as .png and .html.
const sheetFile = "xy"

//go:embed sheet.html
var sheetPage embed.FS

var sheetTemplate = template.Must(template.ParseFS(sheetPage, "sheet.html"))

// axis are the values that a setting takes along one side of a sheet.
type axis struct {
	Name   string
	Values []string
}

// Axes are the settings of --xy as they are given: one or two of the form NAME=A,B,….
type Axes []string

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
		errs = append(errs, errors.New("--xy draws one prompt once for each place: leave out --num_images, --prompt_file and further prompts"))
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

// set gives a drawing a value of the axis.
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

// writeSheet writes the sheet as a picture and as a page.
func (l *List) writeSheet() error {
	s, err := l.options.sheet()
	if err != nil {
		return err
	}
	if err := l.out.stream(sheetFile+".html", func(w io.Writer) error { return s.page(w, l) }); err != nil {
		return err
	}
	rows, titles := s.places(l)
	m, err := l.overview(sheetFile+".png", rows, titles...)
	if m == nil || err != nil {
		return err
	}
	return l.writePicture(sheetFile+".png", m)
}

// places are those of the sheet as one picture, and the titles of its columns.
func (s *sheet) places(l *List) (rows [][]place, titles []string) {
	named := s.Y.Name != ""
	if named {
		titles = append(titles, "")
	}
	for _, x := range s.X.Values {
		titles = append(titles, s.X.label(x))
	}
	for i, y := range s.Y.Values {
		var row []place
		if named {
			label := sample.Label(s.Y.label(y))
			row = append(row, place{width: label.Width, height: label.Height, text: true, read: func() (*imaging.RGB, error) { return label, nil }})
		}
		for _, j := range l.jobs[i*len(s.X.Values) : (i+1)*len(s.X.Values)] {
			row = append(row, l.result(j))
		}
		rows = append(rows, row)
	}
	return rows, titles
}

// sheetCell is an image of a sheet's page.
type sheetCell struct {
	Title string
	image func() (*imaging.RGB, error)
}

// Image is the image as a URL that needs no file. It is read when the page comes to it.
func (c sheetCell) Image() (template.URL, error) {
	m, err := c.image()
	if err != nil {
		return "", err
	}
	raw, err := imaging.EncodePNG(m)
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(raw)), err
}

// page writes the sheet as a page that needs no other file.
func (s *sheet) page(w io.Writer, l *List) error {
	type row struct {
		Label string
		Cells []sheetCell
	}
	var view struct {
		*sheet
		Columns []string
		Rows    []row
	}
	view.sheet = s
	for _, x := range s.X.Values {
		view.Columns = append(view.Columns, s.X.label(x))
	}
	for i, y := range s.Y.Values {
		r := row{Label: s.Y.label(y)}
		for k, x := range s.X.Values {
			j := l.jobs[i*len(s.X.Values)+k]
			title := strings.TrimSpace(s.X.label(x) + " " + s.Y.label(y))
			r.Cells = append(r.Cells, sheetCell{title, func() (*imaging.RGB, error) { return l.drawn(j) }})
		}
		view.Rows = append(view.Rows, r)
	}
	if err := sheetTemplate.Execute(w, view); err != nil {
		return fmt.Errorf("write sheet: %w", err)
	}
	return nil
}
