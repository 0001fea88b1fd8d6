package sample

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"limner/data"
	"limner/data/imaging"
)

// Folder is a folder of images sampled of one prompt: image i has its own seed and file, whatever others are there.
type Folder struct {
	Dir    string
	Count  int // images that the folder should have
	Prompt string
	Seed   uint64 // of image 0; image i has Seed + i
}

// file is where image i lies.
func (f Folder) file(i int) string { return filepath.Join(f.Dir, fmt.Sprintf("image-%05d.png", i)) }

// Missing lists the images that are still to be sampled. Other images in the folder count: where they are enough, none
// is.
func (f Folder) Missing() ([]int, error) {
	have, err := data.CountImages(f.Dir)
	if err != nil {
		return nil, err
	}
	var missing []int
	for i := 0; have+len(missing) < f.Count; i++ {
		if _, err := os.Stat(f.file(i)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, i)
		} else if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// Request asks for images, with the defaults of DefaultRequest.
func (f Folder) Request(images []int) Request {
	r := DefaultRequest()
	for _, i := range images {
		r.Prompts, r.Seeds = append(r.Prompts, f.Prompt), append(r.Seeds, f.Seed+uint64(i))
	}
	return r
}

// Fill samples images and writes each when it is decoded. What is written stays when ctx is cancelled.
func (f Folder) Fill(ctx context.Context, p *Pipeline, missing []int, progress func(done, total int)) error {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return fmt.Errorf("class images: %w", err)
	}
	if len(missing) == 0 {
		return nil
	}
	done, r := 0, f.Request(missing)
	r.OnImage = func(i Image) error {
		if i.Problem != nil {
			return i.Problem // nobody should train on such an image
		}
		if err := imaging.WritePNG(f.file(missing[i.Index]), i.Picture); err != nil {
			return err
		}
		done++
		progress(done, len(missing))
		return nil
	}
	return p.Each(ctx, func(yield func(Request, error) bool) { yield(r, nil) })
}
