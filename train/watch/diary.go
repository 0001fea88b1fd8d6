package watch

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"time"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/page"
)

// diaryName is the page that shows a run.
const diaryName = "diary.html"

//go:embed diary.html
var diaryFile embed.FS

var diaryTemplate = template.Must(template.ParseFS(diaryFile, "diary.html"))

// diaryPoints is how many points a curve has at most, and diaryPixels how wide an image is.
const (
	diaryPoints = 1500
	diaryPixels = 256
)

// diaryPage is what the page shows.
type diaryPage struct {
	Title, Status, Updated string
	Facts                  []fact
	Curves                 []curve
	Split                  []fact // seconds
	Validations            []diaryValidation
	Convergence            string
	Recipe, Made           string
}

type fact struct {
	Name, Value string
	Number      float64
}

// curve is a chart with one or several lines over the steps.
type curve struct {
	Title string `json:"title"`
	Log   bool   `json:"log"`
	Lines []line `json:"lines"`
}

type line struct {
	Name   string       `json:"name"`
	Faint  bool         `json:"faint"`
	Points [][2]float64 `json:"points"`
}

type diaryValidation struct {
	Step   int          `json:"step"`
	Text   string       `json:"text"`
	Images []diaryImage `json:"images"`
}

type diaryImage struct {
	Source string `json:"source"`
	Title  string `json:"title"`
}

// diary writes the page.
type diary struct {
	run    Run
	began  time.Time
	smalls map[string]string // pictures as the page embeds them, by file
}

// newDiary is that of a run in a process that began then.
func newDiary(run Run, began time.Time) *diary {
	return &diary{run: run, began: began, smalls: map[string]string{}}
}

// forget drops the pictures that were embedded: others will have their names.
func (d *diary) forget() { clear(d.smalls) }

// write writes the page anew, after some validations. spent is where the time went since the process began.
func (d *diary) write(validated []Validated, spent Spent) error {
	steps, err := ReadMetrics(d.run.OutputDir)
	if err != nil {
		return err
	}
	shown := diaryPage{
		Title:   fmt.Sprintf("%s, %s", d.run.Name, filepath.Base(d.run.Model)),
		Updated: time.Now().Format("2006-01-02 15:04:05 MST"),
		Curves:  curves(steps, validated), Split: d.split(spent), Facts: d.facts(steps),
	}
	if n := len(steps); n > 0 {
		shown.Status = fmt.Sprintf("step %d of %d, epoch %d, %d images seen",
			steps[n-1].Step, d.run.Steps, steps[n-1].Epoch, steps[n-1].Images)
	}
	if c := convergence(validated); c != nil {
		shown.Convergence = fmt.Sprintf("The condition began to be followed between steps %d and %d: %s %.2f to %.2f.",
			c.After, c.Before, c.Measure, c.From, c.To)
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

// curves are the charts of a run.
func curves(steps []Progress, validated []Validated) []curve {
	of := func(name string, value func(Progress) float64) line {
		l := line{Name: name}
		for _, p := range steps {
			l.Points = append(l.Points, [2]float64{float64(p.Step), value(p)})
		}
		return l
	}
	loss := of("each step", func(p Progress) float64 { return p.Loss })
	mean := smoothed(loss)
	loss.Faint = true
	losses := curve{Title: "loss", Lines: []line{loss, mean}}
	held := line{Name: "held-out rows"}
	for _, v := range validated {
		x := float64(v.Step)
		if v.Loss != nil {
			held.Points = append(held.Points, [2]float64{x, *v.Loss})
		}
	}
	if held.Points != nil {
		losses.Lines = append(losses.Lines, held)
	}
	all := []curve{losses}
	if byRange := rangeCurve(validated); byRange.Lines != nil {
		all = append(all, byRange)
	}
	if followed := fidelityCurve(validated); followed.Lines != nil {
		all = append(all, followed)
	}
	all = append(all,
		curve{Title: "learning rate", Lines: []line{of("lr", func(p Progress) float64 { return p.LearningRate })}},
		curve{
			Title: "gradient norm", Log: true,
			Lines: []line{of("before clipping", func(p Progress) float64 { return p.GradNorm })},
		},
		curve{
			Title: "images per second",
			Lines: []line{of("since the start", func(p Progress) float64 { return p.ImagesPerSecond })},
		},
	)
	for _, c := range all {
		for i := range c.Lines {
			c.Lines[i].Points = thinned(c.Lines[i].Points, diaryPoints)
		}
	}
	return all
}

// rangeCurve is the validation loss by range of timesteps.
func rangeCurve(validated []Validated) curve {
	c := curve{Title: "loss of held-out rows by timesteps", Log: true}
	for _, v := range validated {
		for i, r := range v.Losses {
			if i == len(c.Lines) {
				c.Lines = append(c.Lines, line{Name: fmt.Sprintf("%d to %d", r.From, r.To)})
			}
			c.Lines[i].Points = append(c.Lines[i].Points, [2]float64{float64(v.Step), r.Loss})
		}
	}
	return c
}

// fidelityCurve is how well images followed their condition, beside those without the ControlNet.
func fidelityCurve(validated []Validated) curve {
	c := curve{Title: "condition followed"}
	lines := map[string]int{}
	add := func(name string, step int, score float64) {
		at, ok := lines[name]
		if !ok {
			at = len(c.Lines)
			lines[name], c.Lines = at, append(c.Lines, line{Name: name})
		}
		c.Lines[at].Points = append(c.Lines[at].Points, [2]float64{float64(step), score})
	}
	for _, v := range validated {
		f := v.Fidelity
		if f == nil {
			continue
		}
		add(f.Measure, v.Step, f.Score)
		if f.Measure == byF1 {
			add("precision", v.Step, f.Precision)
			add("recall", v.Step, f.Recall)
		}
		if v.Baseline != nil {
			add("without the ControlNet", v.Step, v.Baseline.Score)
		}
	}
	return c
}

// smoothed is the mean of the last hundredth of all points, at least 10, at each.
func smoothed(l line) line {
	window := max(10, len(l.Points)/100)
	out := line{Name: fmt.Sprintf("mean of %d", window)}
	sum := 0.0
	for i, p := range l.Points {
		sum += p[1]
		if i >= window {
			sum -= l.Points[i-window][1]
		}
		out.Points = append(out.Points, [2]float64{p[0], sum / float64(min(i+1, window))})
	}
	return out
}

// thinned leaves at most n points, the last among them.
func thinned(points [][2]float64, n int) [][2]float64 {
	if len(points) <= n {
		return points
	}
	out := make([][2]float64, 0, n)
	for i := range n {
		out = append(out, points[(i+1)*len(points)/n-1])
	}
	return out
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
		{Name: "parameters trained", Value: fmt.Sprint(r.Parameters)},
		{
			Name: "images in a step", Value: fmt.Sprintf("%d, on %d devices %d each",
				r.Batch, r.Devices, r.Batch/r.Devices),
		},
		{Name: "rows of the dataset", Value: fmt.Sprint(r.Rows)},
		{Name: "compiling", Value: compiling},
		{Name: "model work", Value: fmt.Sprintf("%.3g TFLOP for an image", r.flopsPerImage()/1e12)},
	}
	if n := len(steps); n > 0 {
		last := steps[n-1]
		facts = append(facts,
			fact{
				Name: "throughput", Value: fmt.Sprintf("%.3g images/s, %.3g TFLOP/s in the last step",
					last.ImagesPerSecond, last.TFLOPs),
			},
			fact{Name: "data stall", Value: fmt.Sprintf("%.2f %% of the time", 100*last.DataStall)})
		if last.PeakShare > 0 {
			facts = append(facts, fact{Name: "share of the peak", Value: fmt.Sprintf("%.1f %%", 100*last.PeakShare)})
		}
	}
	return facts
}

// validations are those with their images, small, the conditioning images first.
func (d *diary) validations(validated []Validated) ([]diaryValidation, error) {
	var out []diaryValidation
	for _, v := range validated {
		shown := diaryValidation{Step: v.Step, Text: v.String()}
		last := ""
		for _, image := range v.Images {
			if image.File == "" { // it could not be written
				continue
			}
			if image.Condition != "" && image.Condition != last {
				source, err := d.small(image.Condition)
				if err != nil {
					return nil, err
				}
				shown.Images = append(shown.Images, diaryImage{source, "condition"})
			}
			last = image.Condition
			source, err := d.small(image.File)
			if err != nil {
				return nil, err
			}
			shown.Images = append(shown.Images,
				diaryImage{source, fmt.Sprintf("%s (seed %d)", image.Prompt, image.Seed)})
		}
		out = append(out, shown)
	}
	return out, nil
}

// small is a picture of the output folder as the page embeds it. Each is made once: the page is written anew at every
// validation.
func (d *diary) small(file string) (source string, err error) {
	source, ok := d.smalls[file]
	if !ok {
		if source, err = smallImage(filepath.Join(d.run.OutputDir, file)); err == nil {
			d.smalls[file] = source
		}
	}
	return source, err
}

// smallImage is a picture as the page embeds it.
func smallImage(path string) (string, error) {
	_, m, err := imaging.Decoding{}.DecodeFile(path)
	if err != nil {
		return "", err
	}
	source, err := page.Picture(m, diaryPixels)
	return string(source), err
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
