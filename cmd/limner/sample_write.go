package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"limner/data"
	"limner/sample"
)

// write writes the images, each with its record, and what goes with them. Images in which something is wrong have a name that says so,
// and make it fail.
func (a *artist) write() error {
	var problems []error
	names := make([]string, len(a.work))
	for i, j := range a.work {
		names[i] = a.cmd.imageName(i)
		entry := imageEntry{}
		if j.problem != nil {
			base, extension, _ := strings.Cut(names[i], ".")
			names[i] = base + "-bad." + extension
			entry.Problem = j.problem.Error()
			problems = append(problems, fmt.Errorf("%s: %w", a.cmd.path(names[i]), j.problem))
		}
		entry.File, entry.imageRecord = names[i], a.record(j)
		a.out.record.Images = append(a.out.record.Images, entry)
	}
	files, err := a.extras()
	if err != nil {
		return err
	}
	if err := a.out.begin(append(names, sortedKeys(files)...)...); err != nil {
		return err
	}
	for i, j := range a.work {
		texts, err := a.texts(j, a.out.record.Images[i].imageRecord)
		if err != nil {
			return err
		}
		raw, err := data.Encode(j.result, a.cmd.OutputFormat, texts)
		if err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		if err := a.out.write(names[i], raw); err != nil {
			return err
		}
		fmt.Printf("%s  seed %d  %s\n", a.cmd.path(names[i]), j.Seed, j.Prompt[0])
	}
	for _, name := range sortedKeys(files) {
		if err := files[name](a.cmd.path(name)); err != nil {
			return err
		}
		fmt.Println(a.cmd.path(name))
	}
	return errors.Join(problems...)
}

// extras are the files that go with the images, by name, and what writes them.
func (a *artist) extras() (map[string]func(path string) error, error) {
	files := map[string]func(string) error{}
	picture := func(m *data.RGB) func(string) error {
		return func(path string) error { return data.WritePNG(path, m) }
	}
	switch {
	case a.cmd.XY != nil:
		s, err := a.cmd.sheet()
		if err != nil {
			return nil, err
		}
		page, err := s.page(a.work)
		if err != nil {
			return nil, err
		}
		files[sheetFile+".png"] = picture(s.picture(a.work))
		files[sheetFile+".html"] = func(path string) error { return a.out.write(sheetFile+".html", page) }
	case a.cmd.Grid:
		files[gridFile] = picture(a.grid())
	}
	if a.cmd.SaveLatents {
		files[latentsFile] = a.writeLatents
	}
	return files, nil
}

// gridGap is the space between images of a grid, in pixels.
const gridGap = 8

// grid has a row for each prompt, beginning with its control images; single images without one fill a square.
func (a *artist) grid() *data.RGB {
	per := a.cmd.NumImages
	if per == 1 && a.work[0].controls == nil {
		per = int(math.Ceil(math.Sqrt(float64(len(a.work)))))
	}
	var rows [][]*data.RGB
	for i := 0; i < len(a.work); i += per {
		row := append([]*data.RGB{}, a.work[i].controls...)
		for _, j := range a.work[i:min(i+per, len(a.work))] {
			row = append(row, j.result)
		}
		rows = append(rows, row)
	}
	return sample.Grid(rows, gridGap)
}

// previewDir is the folder of previews.
const previewDir = "previews"

// preview writes what the latents of a group's round look like after a step, if it is time for it.
func (a *artist) preview(g group, round, step, steps int, latents func() ([]float32, error)) error {
	if n := a.cmd.PreviewSteps; n == 0 || step%n != 0 || step == steps {
		return nil
	}
	if !a.out.began {
		if err := a.out.begin(previewDir); err != nil {
			return err
		}
		if err := os.MkdirAll(a.cmd.path(previewDir), 0o755); err != nil {
			return fmt.Errorf("previews: %w", err)
		}
	}
	x, err := latents()
	if err != nil {
		return err
	}
	jobs := g.jobs[round*g.shape.Batch : min((round+1)*g.shape.Batch, len(g.jobs))]
	size := len(x) / len(jobs)
	var shown []*data.RGB
	for i, j := range jobs {
		m := a.model.Preview(x[i*size:(i+1)*size], j.Height, j.Width)
		name := fmt.Sprintf("%s/image-%05d-step-%04d.png", previewDir, a.index(j), step)
		if err := data.WritePNG(a.cmd.path(name), m); err != nil {
			return err
		}
		shown = append(shown, m)
	}
	return showInTerminal(os.Stderr, sample.Grid([][]*data.RGB{shown}, gridGap))
}

// index is the number of a job.
func (a *artist) index(j *job) int {
	for i, other := range a.work {
		if other == j {
			return i
		}
	}
	return -1
}
