package batch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"limner/controlnet/condition"
	"limner/data/imaging"
	"limner/internal/disk"
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
	if c, taken, err := j.taken(); err != nil {
		return seen, err
	} else if !ok && flag == controlFlag && taken && c.Kind().Keypoints {
		k, sum, err := loadKeypoints(path)
		if err != nil {
			return seen, err
		}
		seen, ok = picture{k.Width, k.Height, sum}, true
		p.known[path] = seen
	}
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
			return nil, changedError(flag, path)
		}
	}
	p.read[path] = m
	return m, nil
}

func changedError(flag, path string) error {
	return fmt.Errorf("%s %s changed while images were sampled from it: put it back, or begin in another --output_dir",
		strings.ReplaceAll(flag, "_", " "), path)
}

// sized reads a picture that was looked at and resizes it to a job's size as diffusers does.
func (p *pictures) sized(flag, path string, j *job) (*imaging.RGB, error) {
	m, err := p.again(flag, path)
	if err != nil {
		return nil, err
	}
	m, err = imaging.Resize(m, j.Width, j.Height, imaging.Lanczos)
	if err != nil {
		return nil, fmt.Errorf("load %s %s: %w", strings.ReplaceAll(flag, "_", " "), path, err)
	}
	return m, nil
}

// condition is what a ControlNet is given of a control image, at the job's size: the image itself, or the condition
// that is taken from it or drawn from its keypoints. hidden are its pixels that are to be painted anew, those of the
// job's mask if it has one; nil: there are none.
func (p *pictures) condition(path string, j *job) (m *imaging.RGB, hidden []bool, err error) {
	c, ok, err := j.taken()
	if err != nil {
		return nil, nil, err
	}
	if ok && c.Kind().Keypoints {
		m, err = p.pose(c, path, j)
		return m, nil, err
	}
	if m, err = p.sized(controlFlag, path, j); err != nil || !ok {
		return m, nil, err
	}
	if !c.Kind().Hides {
		m, err = c.Apply(m)
		return m, nil, err
	}
	if j.Mask == nil {
		return m, c.Hidden(m.Width, m.Height), nil
	}
	mask, err := p.sized(maskFlag, j.Mask[0], j)
	if err != nil {
		return nil, nil, err
	}
	hidden = make([]bool, m.Width*m.Height)
	for i, white := range imaging.AppendGray(nil, mask) {
		hidden[i] = white > 0.5
	}
	return m, hidden, nil
}

// pose draws the keypoints of a file.
func (p *pictures) pose(c condition.Condition, path string, j *job) (*imaging.RGB, error) {
	k, sum, err := loadKeypoints(path)
	if err != nil {
		return nil, err
	}
	if sum != p.known[path].sum {
		return nil, changedError(controlFlag, path)
	}
	whole := condition.Part{ResizedWidth: j.Width, ResizedHeight: j.Height, Width: j.Width, Height: j.Height}
	m, err := c.Draw(k, k.Width, k.Height, whole)
	if err != nil {
		return nil, fmt.Errorf("control image %s: %w", path, err)
	}
	return m, nil
}

// loadKeypoints reads keypoints and their file's SHA-256.
func loadKeypoints(path string) (k condition.Keypoints, sum string, err error) {
	raw, err := disk.ReadFile(path, condition.MaxKeypointText)
	if err == nil {
		k, err = condition.ParseKeypoints(raw)
	}
	if err == nil && k.Width == 0 {
		err = errors.New("keypoints: no canvas_width and canvas_height, of which the coordinates are pixels")
	}
	if err != nil {
		return k, "", fmt.Errorf("load control image %s: %w", path, err)
	}
	hash := sha256.Sum256(raw)
	return k, hex.EncodeToString(hash[:]), nil
}
