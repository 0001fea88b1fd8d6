package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"limner/data"
	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/printable"
)

// PeekOptions say which examples are looked at: flags of limner data peek.
type PeekOptions struct {
	data.Reading
	CenterCrop bool   `json:"center_crop" default:"true" negatable:"" help:"Crop images of other shapes at their centre."`
	MaskColumn string `json:"mask_column" placeholder:"NAME" help:"Column of masks."`
	Condition  string `json:"condition" placeholder:"NAME" help:"Take the conditioning images from the images, as train controlnet --condition."`
	Resolution int    `json:"resolution" default:"512" help:"Side of the training images in pixels."`
	Seed       uint64 `json:"seed" default:"0" help:"The run's."`
	Epoch      int    `json:"epoch" default:"0" help:"Epoch, counted from 0, whose first examples are shown."`
	Count      int    `json:"count" default:"16" help:"Examples to show."`
}

// maxPeekPixels bounds the picture of the examples, but for a single one.
const maxPeekPixels = 1 << 26

// peekGap is between the examples, in pixels.
const peekGap = 8

// Validate reports every unusable field.
func (o PeekOptions) Validate() error {
	var errs []error
	if o.Resolution < 1 || o.Resolution > data.MaxResolution {
		errs = append(errs, fmt.Errorf("resolution %d: want 1 to %d pixels", o.Resolution, data.MaxResolution))
	}
	if most := 1 << 20; o.Epoch < 0 || o.Epoch > most {
		errs = append(errs, fmt.Errorf("epoch %d: want 0 to %d", o.Epoch, most))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if most := max(1, maxPeekPixels/(3*o.Resolution*o.Resolution)); o.Count < 1 || o.Count > most {
		return fmt.Errorf("count %d: want 1 to %d, which fit one picture at %d pixels", o.Count, most, o.Resolution)
	}
	return nil
}

// Peek writes the first examples of an epoch as training gets them, cropped and turned around: a picture with the
// image, the conditioning image and the mask of each side by side, and beside it, under its name with the extension
// .txt, a line for each example: its place, its row, and its caption. log takes what data.Open says.
func Peek(ctx context.Context, paths []string, o PeekOptions, picture string, log io.Writer) error {
	if err := o.Validate(); err != nil {
		return err
	}
	// Conditioning images and captions are shown if there are any.
	all := Options{Reading: o.Reading, MaskColumn: o.MaskColumn}
	all.RandomCrop = !o.CenterCrop
	p, _, err := openWhatIsThere(paths, all, false)
	if err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return err
	}
	r := p.options
	r.Log, r.Resolution, r.Seed, r.BatchSize = log, o.Resolution, o.Seed, min(o.Count, p.Len())
	if o.Condition != "" {
		r.Condition, r.NeedConditioning = o.Condition, true
	}
	d, err := data.Open(paths, r)
	if err != nil {
		return err
	}
	defer d.Close()
	batches, err := d.Batches(ctx, o.Epoch*d.StepsPerEpoch())
	if err != nil {
		return err
	}
	defer batches.Close()
	b, err := batches.Next()
	if err != nil {
		return err
	}
	raw, err := imaging.EncodePNG(peekGrid(b, o.Resolution))
	if err != nil {
		return err
	}
	var lines strings.Builder
	for i, row := range b.Rows {
		file, at, _ := d.Origin(int(row))
		flipped := ""
		if b.Views[i].Flipped {
			flipped = ", turned around"
		}
		fmt.Fprintf(&lines, "%d: %s row %d%s: %s\n", i+1, printable.Line(file, nameLimit), at, flipped,
			printable.Line(b.Captions[i], printable.LineLimit))
	}
	if err := os.MkdirAll(filepath.Dir(picture), 0o755); err != nil {
		return fmt.Errorf("write examples: %w", err)
	}
	texts := strings.TrimSuffix(picture, filepath.Ext(picture)) + ".txt"
	if err := errors.Join(disk.WriteFile(picture, raw, 0o644),
		disk.WriteFile(texts, []byte(lines.String()), 0o644)); err != nil {
		return fmt.Errorf("write examples: %w", err)
	}
	return nil
}

// peekGrid puts the pictures of a batch into one, row by row, as square as it can be.
func peekGrid(b *data.Batch, side int) *imaging.RGB {
	parts := 1
	if b.Conditioning != nil {
		parts++
	}
	if b.Masks != nil {
		parts++
	}
	n := len(b.Rows)
	columns := max(1, int(math.Ceil(math.Sqrt(float64(n)/float64(parts)))))
	width, height := parts*side+peekGap, side+peekGap
	out := imaging.NewRGB(columns*width+peekGap, (n+columns-1)/columns*height+peekGap)
	for i := range out.Pix {
		out.Pix[i] = 255
	}
	for i := range n {
		x, y := peekGap+i%columns*width, peekGap+i/columns*height
		size := side * side
		paste(out, x, y, side, func(k int) float32 { return b.Pixels[3*size*i+k]/2 + 0.5 })
		if b.Conditioning != nil {
			x += side
			paste(out, x, y, side, func(k int) float32 { return b.Conditioning[3*size*i+k] })
		}
		if b.Masks != nil {
			x += side
			paste(out, x, y, side, func(k int) float32 { return b.Masks[size*i+k/3] })
		}
	}
	return out
}

// paste puts a square picture at x and y, whose values, in [0, 1], are asked for by their index.
func paste(to *imaging.RGB, x, y, side int, value func(k int) float32) {
	for row := range side {
		at := ((y+row)*to.Width + x) * 3
		for k := range side * 3 {
			to.Pix[at+k] = uint8(max(0, min(255, value(row*side*3+k)*255+0.5)))
		}
	}
}
