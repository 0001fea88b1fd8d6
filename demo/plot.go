package demo

import (
	"bytes"
	"fmt"
	"image/color"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"limner/internal/disk"
	"limner/train/watch"
)

// plotLoss draws the loss of every step of the ControlNet's training, and its moving average.
func plotLoss(dir string) error {
	steps, err := watch.ReadMetrics(filepath.Join(dir, controlName))
	if err != nil {
		return err
	}
	each, average := make(plotter.XYs, len(steps)), make(plotter.XYs, len(steps))
	const window = 20
	var sum float64
	for i, p := range steps {
		sum += p.Loss
		if i >= window {
			sum -= steps[i-window].Loss
		}
		each[i] = plotter.XY{X: float64(p.Step), Y: p.Loss}
		average[i] = plotter.XY{X: float64(p.Step), Y: sum / float64(min(i+1, window))}
	}
	p := plot.New()
	p.Title.Text = "ControlNet training"
	p.X.Label.Text, p.Y.Label.Text = "step", "loss"
	p.Add(plotter.NewGrid())
	p.Legend.Top = true
	for _, series := range []struct {
		name   string
		points plotter.XYs
		colour color.RGBA
		width  vg.Length
	}{
		{"each step", each, color.RGBA{R: 170, G: 190, B: 215, A: 255}, vg.Points(0.75)},
		{fmt.Sprintf("mean of %d", window), average, color.RGBA{R: 20, G: 70, B: 140, A: 255}, vg.Points(2)},
	} {
		line, err := plotter.NewLine(series.points)
		if err != nil {
			return fmt.Errorf("plot the loss: %w", err)
		}
		line.Color, line.Width = series.colour, series.width
		p.Add(line)
		p.Legend.Add(series.name, line)
	}
	w, err := p.WriterTo(6*vg.Inch, 4*vg.Inch, "png")
	if err != nil {
		return fmt.Errorf("plot the loss: %w", err)
	}
	var png bytes.Buffer
	if _, err := w.WriteTo(&png); err != nil {
		return fmt.Errorf("plot the loss: %w", err)
	}
	return disk.WriteFile(filepath.Join(dir, lossName), png.Bytes(), 0o644)
}
