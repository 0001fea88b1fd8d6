package batch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"limner/data/imaging"
	"limner/sample"
)

// recorded is the record of a folder that holds all images, and nothing wrong with any.
func (l *List) recorded() folderRecord {
	record := folderRecord{Seed: l.options.Seed, Outputs: l.options.Outputs}
	for i, j := range l.jobs {
		entry := imageEntry{File: l.options.imageName(i), ImageRecord: l.recordOf(j)}
		record.Images, record.Files = append(record.Images, entry), append(record.Files, entry.File)
	}
	switch {
	case l.options.XY != nil:
		record.Files = append(record.Files, sheetFile+".html", sheetFile+".png")
	case l.options.Grid:
		record.Files = append(record.Files, gridFile)
	}
	if l.options.SaveLatents {
		record.Files = append(record.Files, latentsFile)
	}
	if l.options.PreviewSteps > 0 {
		record.Files = append(record.Files, previewDir)
	}
	return record
}

// resume takes over from the folder's record what is sampled, if it is of the same command.
func (l *List) resume() error {
	was := l.out.goOn
	if was == nil {
		return nil
	}
	differences, err := was.differences(l.record)
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		const most = 10
		text := ""
		for _, line := range differences[:min(len(differences), most)] {
			text += "\n" + line
		}
		return UsageError{fmt.Errorf("resume: %s is of another command, so it cannot go on there: "+
			"give its settings, or another --output_dir%s", l.options.OutputDir, text)}
	}
	latents := !l.options.SaveLatents || isFile(l.options.path(latentsFile)) || isFile(l.options.path(latentsPart))
	other := ""
	for i, j := range l.jobs {
		entry := was.Images[i]
		if j.done = latents && isFile(l.options.path(entry.File)); !j.done {
			continue
		}
		if entry.Problem != "" {
			j.problem = errors.New(entry.Problem)
		}
		if entry.Version != l.record.Images[i].Version {
			other = entry.Version
		}
		l.record.Images[i] = entry
	}
	if other != "" {
		fmt.Fprintf(l.host.Log, "resume: images in %s are of limner %s, those that are missing are sampled by %s\n",
			l.options.OutputDir, other, l.host.Version)
	}
	return nil
}

// complete says that a result is finished.
func (l *List) complete() bool {
	if l.out.goOn == nil || l.out.goOn.Unfinished {
		return false
	}
	for _, name := range l.out.goOn.Files {
		if _, err := os.Stat(l.options.path(name)); err != nil && name != previewDir {
			return false
		}
	}
	return true
}

// count is how many images are in the folder.
func (l *List) count() int {
	n := 0
	for _, j := range l.jobs {
		if j.done {
			n++
		}
	}
	return n
}

// bytesPerPixel is about what a photograph takes in each format.
var bytesPerPixel = map[string]float64{"png": 1.5, "webp": 1.2, "jpeg": 0.5}

// checkSpace fails where the images that are missing, as far as their sizes are known, are more than the disk can hold.
func (l *List) checkSpace() error {
	var need float64
	for _, j := range l.jobs {
		if !j.done {
			need += float64(j.Width*j.Height) * bytesPerPixel[l.options.OutputFormat]
		}
	}
	return l.out.checkSpace(int64(need))
}

// begin makes the folder ready for images.
func (l *List) begin() (err error) {
	if l.out.began {
		return nil
	}
	if err := l.out.begin(l.record); err != nil {
		return err
	}
	if l.options.PreviewSteps > 0 {
		if err := os.MkdirAll(l.options.path(previewDir), 0o755); err != nil {
			return fmt.Errorf("previews: %w", err)
		}
	}
	if l.options.SaveLatents {
		l.latents, err = openLatentsWriter(l.options.path(latentsFile), l.jobs, l.model.Pipeline.VAE.LatentChannels,
			l.model.Pipeline.VAE.Scale())
	}
	return err
}

// keep writes an image when it is decoded, its latents first. One in which something is wrong has a name that says so.
func (l *List) keep(j *job, image sample.Image) error {
	if j.done {
		return nil // of a round that is sampled for others
	}
	entry := &l.record.Images[j.index]
	if j.problem = image.Problem; j.problem != nil {
		entry.File, entry.Problem = badName(entry.File), j.problem.Error()
		l.record.Files[j.index] = entry.File
	}
	texts, err := l.texts(j, entry.ImageRecord)
	if err != nil {
		return err
	}
	raw, err := imaging.Encode(image.Picture, l.options.OutputFormat, texts)
	if err != nil {
		return fmt.Errorf("%s: %w", entry.File, err)
	}
	if err := l.latents.write(j.index, image.Latents); err != nil {
		return err
	}
	if err := l.out.write(entry.File, raw); err != nil {
		return err
	}
	j.done = true
	return l.host.Watcher.Image(l.options.path(entry.File), j.Seed, j.Prompt[0])
}

// finish writes what goes with the images and the record, and fails where something is wrong with an image.
func (l *List) finish() error {
	if err := l.begin(); err != nil { // where only what goes with the images was missing
		return err
	}
	if err := l.latents.finish(); err != nil {
		return err
	}
	var err error
	switch {
	case l.options.XY != nil:
		err = l.writeSheet()
	case l.options.Grid:
		err = l.writeGrid()
	}
	if err == nil {
		err = l.out.finish(l.record)
	}
	if err != nil {
		return err
	}
	for _, name := range l.record.Files[len(l.jobs):] {
		if path := l.options.path(name); name != previewDir && isFile(path) {
			if err := l.host.Watcher.File(path); err != nil {
				return err
			}
		}
	}
	return l.problems()
}

// problems are what is wrong with images.
func (l *List) problems() error {
	var errs []error
	for i, j := range l.jobs {
		if j.problem != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.options.path(l.record.Images[i].File), j.problem))
		}
	}
	return errors.Join(errs...)
}

// preview writes what the latents of a round look like after a step, if it is time for it.
func (l *List) preview(r round, step int, latents func() ([]float32, error)) error {
	if n := l.options.PreviewSteps; n == 0 || step%n != 0 || step == len(r.schedule.Calls) {
		return nil
	}
	x, err := latents()
	if err != nil {
		return err
	}
	size := len(x) / len(r.jobs)
	var shown []*imaging.RGB
	for i, j := range r.jobs {
		m := l.model.Preview(x[i*size:(i+1)*size], j.Height, j.Width)
		raw, err := imaging.EncodePNG(m)
		if err != nil {
			return err
		}
		if err := l.out.write(filepath.Join(previewDir, fmt.Sprintf("image-%05d-step-%04d.png", j.index, step)),
			raw); err != nil {
			return err
		}
		shown = append(shown, m)
	}
	return l.host.Watcher.Preview(sample.Grid([][]*imaging.RGB{shown}, gridGap))
}
