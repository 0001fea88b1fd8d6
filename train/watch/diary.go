package watch

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"time"

	"limner/internal/disk"
	"limner/internal/page"
	"limner/internal/units"
)

// diaryName is the page that shows a run.
const diaryName = "diary.html"

//go:embed diary.html
var diaryFile embed.FS

var diaryTemplate = template.Must(template.ParseFS(diaryFile, "diary.html"))

// diaryPage is what the page shows.
type diaryPage struct {
	Title, Status, Updated string
	Facts                  []fact
	Curves                 []curve
	Split                  []fact // seconds
	Rows                   []diaryGroup
	Validations            []diaryValidation
	Convergence            string
	Recipe, Made           string
}

type fact struct {
	Name, Value string
	Number      float64
}

// diary writes the page.
type diary struct {
	run    Run
	began  time.Time
	smalls map[string]template.URL // pictures as the page embeds them, by file or, of rows, by name
}

// newDiary is that of a run in a process that began then.
func newDiary(run Run, began time.Time) *diary {
	return &diary{run: run, began: began, smalls: map[string]template.URL{}}
}

// forget drops the pictures that were embedded: others will have their names.
func (d *diary) forget() { clear(d.smalls) }

// write writes the page anew, with some rows and after some validations. spent is where the time went since the process
// began.
func (d *diary) write(rows []Row, validated []Validated, spent Spent) error {
	steps, err := ReadMetrics(d.run.OutputDir)
	if err != nil {
		return err
	}
	shown := diaryPage{
		Title:   d.title(),
		Updated: time.Now().Format("2006-01-02 15:04:05 MST"),
		Curves:  curves(steps, validated), Split: d.split(spent), Facts: d.facts(steps),
	}
	if n := len(steps); n > 0 {
		shown.Status = fmt.Sprintf("step %s of %s, epoch %d, %s images seen", units.Count(steps[n-1].Step),
			units.Count(d.run.Steps), steps[n-1].Epoch, units.Count(steps[n-1].Images))
	}
	if c := convergence(validated); c != nil {
		shown.Convergence = fmt.Sprintf("The condition began to be followed between steps %s and %s: %s %.2f to %.2f.",
			units.Count(c.After), units.Count(c.Before), c.Measure, c.From, c.To)
	}
	if shown.Rows, err = d.groups(rows); err != nil {
		return err
	}
	if shown.Validations, err = d.validations(validated); err != nil {
		return err
	}
	for name, text := range map[string]*string{d.run.RecipeFile: &shown.Recipe, d.run.RecordFile: &shown.Made} {
		raw, err := os.ReadFile(filepath.Join(d.run.OutputDir, name))
		if err == nil {
			*text = withoutFolders(string(raw))
		} else if !os.IsNotExist(err) {
			return err
		}
	}
	var b bytes.Buffer
	if err := diaryTemplate.Execute(&b, shown); err != nil {
		return err
	}
	if err := disk.WriteFile(filepath.Join(d.run.OutputDir, diaryName), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write diary: %w", err)
	}
	return nil
}

// title names the run, what it trains and the model that it began with.
func (d *diary) title() string {
	name := d.run.Title
	if name == "" {
		name = filepath.Base(d.run.OutputDir)
		if absolute, err := filepath.Abs(d.run.OutputDir); err == nil { // else it is shown as it was given
			name = filepath.Base(absolute)
		}
	}
	return fmt.Sprintf("%s (%s of %s)", name, strings.ReplaceAll(d.run.Name, "_", " "), filepath.Base(d.run.Model))
}

// split is where the time went since the process began.
func (d *diary) split(s Spent) []fact {
	total := time.Since(d.began).Seconds()
	other := max(0, total-s.DataWait-s.Device-s.Saving-s.Validation)
	return []fact{
		{Name: "device", Number: s.Device}, {Name: "waiting for data", Number: s.DataWait},
		{Name: "saving", Number: s.Saving}, {Name: "validation", Number: s.Validation}, {Name: "other", Number: other},
	}
}

// facts are the numbers of a run.
func (d *diary) facts(steps []Progress) []fact {
	r := d.run
	compiling := fmt.Sprintf("%.1f s", r.CompileTime.Seconds())
	if r.Loaded {
		compiling += ", loaded: it had been compiled before"
	}
	facts := []fact{
		{Name: "parameters trained", Value: units.Count(r.Parameters)},
		{Name: "images of a step", Value: perStep(r)},
		{Name: "rows of the dataset", Value: units.Count(r.Rows)},
		{Name: "compiling", Value: compiling},
		{Name: "model work", Value: fmt.Sprintf("%.3g TFLOP for an image", r.flopsPerImage()/1e12)},
	}
	if n := len(steps); n > 0 {
		last := steps[n-1]
		facts = append(facts,
			fact{
				Name: "throughput", Value: fmt.Sprintf("%s images/s, %.3g TFLOP/s in the last step",
					rate(last.ImagesPerSecond), last.TFLOPs),
			},
			fact{Name: "data stall", Value: fmt.Sprintf("%.2f %% of the time", 100*last.DataStall)})
		if last.PeakShare > 0 {
			facts = append(facts, fact{Name: "share of the peak", Value: fmt.Sprintf("%.1f %%", 100*last.PeakShare)})
		}
	}
	return facts
}

// rate is a number of things a second, to three digits or to whole ones.
func rate(x float64) string {
	if x < 1000 {
		return fmt.Sprintf("%.3g", x)
	}
	return units.Count(int(x + 0.5))
}

// perStep says how many images a step has, and where.
func perStep(r Run) string {
	text := units.Count(r.Images)
	if r.Images > r.Batch {
		text += fmt.Sprintf(", in %d batches of %s", r.Images/r.Batch, units.Count(r.Batch))
	}
	if r.Devices > 1 {
		text += fmt.Sprintf(", on each of %d devices %s at a time", r.Devices, units.Count(r.Batch/r.Devices))
	}
	return text
}

// Style is the style of all pages.
func (diaryPage) Style() template.CSS { return page.Style() }

// CurvesJSON and ValidationsJSON are what the page's script reads.
func (p diaryPage) CurvesJSON() (template.JS, error)      { return scriptJSON(p.Curves) }
func (p diaryPage) ValidationsJSON() (template.JS, error) { return scriptJSON(p.Validations) }

// scriptJSON is JSON that a script element may hold: Go writes < as \u003c.
func scriptJSON(v any) (template.JS, error) {
	raw, err := json.Marshal(v)
	return template.JS(raw), err
}

// Share is a part of the time in percent.
func (p diaryPage) Share(f fact) string {
	total := 0.0
	for _, s := range p.Split {
		total += s.Number
	}
	if total == 0 {
		return "0"
	}
	return fmt.Sprintf("%.2f", 100*f.Number/total)
}
