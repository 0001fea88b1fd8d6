package check

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"limner/internal/disk"
	"limner/internal/page"
	"limner/internal/units"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page.html").Parse(pageText))

// pageView is what the page's template reads.
type pageView struct {
	*Report
	Facts       []fact
	Sheet       []Example
	WorstPairs  []Example
	OpenedLines []string
}

// Style is the style of all pages.
func (pageView) Style() template.CSS { return page.Style() }

// More is how many rows of a finding are not shown.
func (f Finding) More() string {
	if more := f.Count - len(f.Rows); more > 0 && len(f.Rows) > 0 {
		return units.Count(more)
	}
	return ""
}

// Pictures are those of a row as the page holds them.
func (e Example) Pictures() ([]pagePicture, error) {
	var all []pagePicture
	for _, p := range e.pictures {
		source, err := page.Picture(p.pixels, pictureSide)
		if err != nil {
			return nil, err
		}
		all = append(all, pagePicture{source, fmt.Sprintf("%s of %s", p.column, e.Row)})
	}
	return all, nil
}

// pagePicture is a picture of the page.
type pagePicture struct {
	Source template.URL
	Alt    string
}

// Share is a size's part of all images in percent, as the width of its bar.
func (r *Report) Share(n int) string {
	total := r.OtherSizes
	for _, s := range r.Sizes {
		total += s.Images
	}
	return fmt.Sprintf("%.2f", 100*float64(n)/float64(max(1, total)))
}

// Thousands writes a number with commas.
func (*Report) Thousands(n int) string { return units.Count(n) }

// WritePage writes the report as a page that needs no other file.
func (r *Report) WritePage(path string) error {
	view := pageView{Report: r, Facts: r.facts(), Sheet: r.sheet, WorstPairs: r.worst}
	for _, s := range r.Splits {
		if s.Opened != "" {
			view.OpenedLines = append(view.OpenedLines, s.Opened)
		}
	}
	if r.NoHeldOut != "" {
		view.OpenedLines = append(view.OpenedLines, "no held-out rows: "+r.NoHeldOut)
	}
	err := disk.Replace(path, 0o644, func(w io.Writer) error { return pageTemplate.Execute(w, view) })
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
