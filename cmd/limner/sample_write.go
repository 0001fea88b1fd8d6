package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"limner/data/imaging"
	"limner/internal/printable"
	"limner/sample"
)

// recorded is the record of a folder that holds all images, and nothing wrong with any.
func (a *artist) recorded() sampleRecord {
	record := sampleRecord{writtenFlags: a.cmd.writtenFlags}
	for i, j := range a.work {
		entry := imageEntry{File: a.cmd.imageName(i), imageRecord: a.recordOf(j)}
		record.Images, record.Files = append(record.Images, entry), append(record.Files, entry.File)
	}
	switch {
	case a.cmd.XY != nil:
		record.Files = append(record.Files, sheetFile+".html", sheetFile+".png")
	case a.cmd.Grid:
		record.Files = append(record.Files, gridFile)
	}
	if a.cmd.SaveLatents {
		record.Files = append(record.Files, latentsFile)
	}
	if a.cmd.PreviewSteps > 0 {
		record.Files = append(record.Files, previewDir)
	}
	return record
}

// resume takes over from the folder's record what is drawn, if it is of the same command.
func (a *artist) resume() error {
	was := a.out.goOn
	if was == nil {
		return nil
	}
	differences, err := was.differences(a.record)
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		const most = 10
		text := ""
		for _, line := range differences[:min(len(differences), most)] {
			text += "\n" + line
		}
		return usageError{fmt.Errorf("resume: %s is of another command, so it cannot go on there: give its settings, or another --output_dir%s", a.cmd.OutputDir, text)}
	}
	latents := !a.cmd.SaveLatents || isFile(a.cmd.path(latentsFile)) || isFile(a.cmd.path(latentsPart))
	other := ""
	for i, j := range a.work {
		entry := was.Images[i]
		if j.done = latents && isFile(a.cmd.path(entry.File)); !j.done {
			continue
		}
		if entry.Problem != "" {
			j.problem = errors.New(entry.Problem)
		}
		if entry.Version != a.record.Images[i].Version {
			other = entry.Version
		}
		a.record.Images[i] = entry
	}
	if other != "" {
		fmt.Fprintf(os.Stderr, "resume: images in %s are of limner %s, those that are missing are drawn by %s\n", a.cmd.OutputDir, other, version())
	}
	return nil
}

// complete says that a result is finished.
func (a *artist) complete() bool {
	if a.out.goOn == nil || a.out.goOn.Unfinished {
		return false
	}
	for _, name := range a.out.goOn.Files {
		if _, err := os.Stat(a.cmd.path(name)); err != nil && name != previewDir {
			return false
		}
	}
	return true
}

// count is how many images are in the folder.
func (a *artist) count() int {
	n := 0
	for _, j := range a.work {
		if j.done {
			n++
		}
	}
	return n
}

// bytesPerPixel is about what a photograph takes in each format.
var bytesPerPixel = map[string]float64{"png": 1.5, "webp": 1.2, "jpeg": 0.5}

// checkSpace fails where the images that are missing, as far as their sizes are known, are more than the disk can hold.
func (a *artist) checkSpace() error {
	var need float64
	for _, j := range a.work {
		if !j.done {
			need += float64(j.Width*j.Height) * bytesPerPixel[a.cmd.OutputFormat]
		}
	}
	return a.out.checkSpace(int64(need))
}

// begin makes the folder ready for images.
func (a *artist) begin() (err error) {
	if a.out.began {
		return nil
	}
	if err := a.out.begin(a.record); err != nil {
		return err
	}
	if a.cmd.PreviewSteps > 0 {
		if err := os.MkdirAll(a.cmd.path(previewDir), 0o755); err != nil {
			return fmt.Errorf("previews: %w", err)
		}
	}
	if a.cmd.SaveLatents {
		a.latents, err = openLatentsWriter(a.cmd.path(latentsFile), a.work, a.model.Pipeline.VAE.LatentChannels, a.model.Pipeline.VAE.Scale())
	}
	return err
}

// keep writes an image when it is decoded, its latents first. One in which something is wrong has a name that says so.
func (a *artist) keep(j *job, image sample.Image) error {
	if j.done {
		return nil // of a round that is drawn for others
	}
	entry := &a.record.Images[j.index]
	if j.problem = image.Problem; j.problem != nil {
		entry.File, entry.Problem = badName(entry.File), j.problem.Error()
		a.record.Files[j.index] = entry.File
	}
	texts, err := a.texts(j, entry.imageRecord)
	if err != nil {
		return err
	}
	raw, err := imaging.Encode(image.Picture, a.cmd.OutputFormat, texts)
	if err != nil {
		return fmt.Errorf("%s: %w", entry.File, err)
	}
	if err := a.latents.write(j.index, image.Latents); err != nil {
		return err
	}
	if err := a.out.write(entry.File, raw); err != nil {
		return err
	}
	j.done = true
	a.saying.Lock()
	defer a.saying.Unlock()
	if a.bar.bar != nil {
		_ = a.bar.bar.Clear() // fails only on a terminal that is gone
	}
	_, err = fmt.Printf("%s  seed %d  %s\n", a.cmd.path(entry.File), j.Seed, printable.Line(j.Prompt[0], printable.LineLimit))
	return err
}

// finish writes what goes with the images and the record, and fails where something is wrong with an image.
func (a *artist) finish() error {
	if err := a.begin(); err != nil { // where only what goes with the images was missing
		return err
	}
	if err := a.latents.finish(); err != nil {
		return err
	}
	var err error
	switch {
	case a.cmd.XY != nil:
		err = a.writeSheet()
	case a.cmd.Grid:
		err = a.writeGrid()
	}
	if err == nil {
		err = a.out.finish(a.record)
	}
	if err != nil {
		return err
	}
	for _, name := range a.record.Files[len(a.work):] {
		if path := a.cmd.path(name); name != previewDir && isFile(path) {
			fmt.Println(path)
		}
	}
	return a.problems()
}

// problems are what is wrong with images.
func (a *artist) problems() error {
	var errs []error
	for i, j := range a.work {
		if j.problem != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.cmd.path(a.record.Images[i].File), j.problem))
		}
	}
	return errors.Join(errs...)
}

// previewDir is the folder of previews.
const previewDir = "previews"

// preview writes what the latents of a round look like after a step, if it is time for it.
func (a *artist) preview(r round, step int, latents func() ([]float32, error)) error {
	if n := a.cmd.PreviewSteps; n == 0 || step%n != 0 || step == r.calls {
		return nil
	}
	x, err := latents()
	if err != nil {
		return err
	}
	size := len(x) / len(r.jobs)
	var shown []*imaging.RGB
	for i, j := range r.jobs {
		m := a.model.Preview(x[i*size:(i+1)*size], j.Height, j.Width)
		raw, err := imaging.EncodePNG(m)
		if err != nil {
			return err
		}
		if err := a.out.write(filepath.Join(previewDir, fmt.Sprintf("image-%05d-step-%04d.png", j.index, step)), raw); err != nil {
			return err
		}
		shown = append(shown, m)
	}
	return showInTerminal(os.Stderr, sample.Grid([][]*imaging.RGB{shown}, gridGap))
}
