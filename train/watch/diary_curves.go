package watch

import "fmt"

// diaryPoints is how many points a curve has at most.
const diaryPoints = 1500

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
