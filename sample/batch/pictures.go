package batch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"limner/data/imaging"
	"limner/sample"
)

// pictures are what the jobs begin from. All are looked at before anything else is done, and read again when they are
// sampled from, so that their number takes no memory.
type pictures struct {
	decoding     imaging.Decoding
	log          io.Writer
	noted        map[imaging.Note]bool   // what was said that pictures lose
	known        map[string]picture      // by path
	recent, read map[string]*imaging.RGB // of the round before and of this one, by path
}

// picture is what is known of a picture that is not in memory.
type picture struct {
	width, height int
	sum           string // the file's SHA-256
}

// load reads a picture and its SHA-256, and says once what pictures lose. flag is what names it.
func (p *pictures) load(flag, path string) (*imaging.RGB, string, error) {
	what := strings.ReplaceAll(flag, "_", " ")
	raw, err := imaging.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("load %s: %w", what, err)
	}
	m, notes, err := p.decoding.Decode(raw)
	if err != nil {
		return nil, "", fmt.Errorf("load %s %s: %w", what, path, err)
	}
	for _, note := range notes {
		if !p.noted[note] {
			fmt.Fprintf(p.log, "%s %s: %s (said once)\n", what, path, note)
		}
		p.noted[note] = true
	}
	sum := sha256.Sum256(raw)
	return m, hex.EncodeToString(sum[:]), nil
}

// look reads a picture of a job once and keeps what is known of it.
func (p *pictures) look(flag, path string, j *job) (picture, error) {
	seen, ok := p.known[path]
	if !ok {
		m, sum, err := p.load(flag, path)
		if err != nil {
			return seen, err
		}
		seen = picture{m.Width, m.Height, sum}
		p.known[path] = seen
	}
	j.files = append(j.files, named(flag, path, seen.sum))
	return seen, nil
}

// lookAt looks at all pictures of the jobs. background is the colour behind those that are not opaque.
func lookAt(work []*job, background string, log io.Writer) (*pictures, error) {
	decoding, err := imaging.NewDecoding(background)
	if err != nil {
		return nil, UsageError{err}
	}
	p := &pictures{decoding: decoding, log: log, noted: map[imaging.Note]bool{}, known: map[string]picture{}}
	for _, j := range work {
		var image, mask picture
		var err error
		if j.Image != nil {
			if image, err = p.look(imageFlag, j.Image[0], j); err != nil {
				return nil, err
			}
		}
		if j.Mask != nil {
			if mask, err = p.look(maskFlag, j.Mask[0], j); err != nil {
				return nil, err
			}
			if mask.width*image.height != mask.height*image.width {
				return nil, fmt.Errorf("mask %s of %d×%d pixels has another aspect than image %s of %d×%d",
					j.Mask[0], mask.width, mask.height, j.Image[0], image.width, image.height)
			}
		}
		for _, path := range j.ControlImage {
			if _, err := p.look(controlFlag, path, j); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// fillSizes sets the sizes of images where nothing did: that of the image to begin from, rounded down to what the VAE
// takes, or what the model was trained for.
func (p *pictures) fillSizes(work []*job, m sample.Model) {
	scale := m.Pipeline.VAE.Scale()
	for _, j := range work {
		height, width := m.Pipeline.UNet.SampleSize*scale, m.Pipeline.UNet.SampleSize*scale
		if j.Image != nil {
			image := p.known[j.Image[0]]
			height, width = max(1, image.height/scale)*scale, max(1, image.width/scale)*scale
		}
		if j.Height == 0 {
			j.Height = height
		}
		if j.Width == 0 {
			j.Width = width
		}
	}
}

// next begins a round: what the one before read is at hand, what was read earlier goes.
func (p *pictures) next() { p.recent, p.read = p.read, map[string]*imaging.RGB{} }

// again reads a picture that was looked at.
func (p *pictures) again(flag, path string) (*imaging.RGB, error) {
	m := p.read[path]
	if m == nil {
		m = p.recent[path]
	}
	if m == nil {
		var sum string
		var err error
		if m, sum, err = p.load(flag, path); err != nil {
			return nil, err
		}
		if sum != p.known[path].sum {
			return nil, fmt.Errorf("%s %s changed while images were sampled from it: "+
				"put it back, or begin in another --output_dir", strings.ReplaceAll(flag, "_", " "), path)
		}
	}
	p.read[path] = m
	return m, nil
}

// take takes the job's condition from a picture of its size, if it has one.
func (j *job) take(m *imaging.RGB) (*imaging.RGB, error) {
	s, err := j.preprocess()
	if err != nil || s.None() {
		return m, err
	}
	return s.Draw(j.Seed, 0, 0).Apply(m)
}

// sized reads a picture that was looked at and resizes it to a job's size as diffusers does. Of a control image it is
// the condition taken from that.
func (p *pictures) sized(flag, path string, j *job) (*imaging.RGB, error) {
	m, err := p.again(flag, path)
	if err != nil {
		return nil, err
	}
	m, err = imaging.Resize(m, j.Width, j.Height, imaging.Lanczos)
	if err == nil && flag == controlFlag {
		m, err = j.take(m)
	}
	if err != nil {
		return nil, fmt.Errorf("load %s %s: %w", strings.ReplaceAll(flag, "_", " "), path, err)
	}
	return m, nil
}
