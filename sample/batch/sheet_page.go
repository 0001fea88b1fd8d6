package batch

import (
	"embed"
	"encoding/base64"
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
			row = append(row, place{
				width: label.Width, height: label.Height, text: true,
				read: func() (*imaging.RGB, error) { return label, nil },
			})
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
			r.Cells = append(r.Cells, sheetCell{title, func() (*imaging.RGB, error) { return l.sampled(j) }})
		}
		view.Rows = append(view.Rows, r)
	}
	if err := sheetTemplate.Execute(w, view); err != nil {
		return fmt.Errorf("write sheet: %w", err)
	}
	return nil
}
