package build

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"limner/controlnet/condition"
	"limner/data"
	"limner/data/imaging"
	"limner/data/quality"
	"limner/internal/parquetfile"
)

// Why rows are left out.
const (
	leftUnreadable = "unreadable"
	leftSmall      = "too small"
	leftOblong     = "too oblong"
	leftScore      = "score"
	leftBlank      = "blank"
	leftBlurred    = "blurred"
	leftCondition  = "blank condition"
	leftMask       = "black mask"
	leftShape      = "shapes differ"
	leftCaption    = "caption"
	leftDuplicate  = "duplicate"
	leftNear       = "near duplicate"
	leftHeldOut    = "duplicate of validation"
)

// The columns that are written, besides those that are kept.
const (
	columnImage        = "image"
	columnConditioning = "conditioning_image"
	columnMask         = "mask"
	columnText         = "text"
	columnCaptions     = "captions"
	columnCondition    = "condition"
)

var ownColumns = []string{
	columnImage, columnConditioning, columnMask, columnText, columnCaptions, columnCondition,
}

// preparer makes rows as they are written. Its methods may be called from several goroutines at once.
type preparer struct {
	Settings
	reading  data.Options
	filter   imaging.Filter
	spec     condition.Spec
	template template
	buckets  []size
	columns  []parquetfile.Column
	compares bool // rows are compared with others
	encoders sync.Pool
}

// made is a row as it is written, or why it is left out.
type made struct {
	why, detail string // why: one of left…; "" if it is not left out
	values      []any  // of the columns
	bytes       int64
	copied      bool // its image is the file that was read
	more        bool // it has captions that are not written
	likeness    likeness
	err         error // ends the build
}

func leave(why, format string, args ...any) made {
	return made{why: why, detail: fmt.Sprintf(format, args...)}
}

// prepare makes row i of a source.
func (p *preparer) prepare(i int, r data.Row) made {
	if left := p.unfit(r); left.why != "" {
		return left
	}
	var image, conditioning, mask *imaging.RGB
	for _, part := range []struct {
		column string
		from   *imaging.RGB
		to     **imaging.RGB
		filter imaging.Filter
	}{
		{p.reading.ImageColumn, r.Image, &image, p.filter},
		{p.reading.ConditioningImageColumn, r.Conditioning, &conditioning, p.filter},
		{p.reading.MaskColumn, r.Mask, &mask, imaging.Bilinear},
	} {
		if part.from == nil {
			continue
		}
		fitted, err := p.fit(part.from, r.Image, part.filter)
		if err != nil {
			return leave(leftShape, "%s: %v", part.column, err)
		}
		*part.to = fitted
	}
	captions, err := p.captions(r)
	if err != nil {
		return leave(leftCaption, "%v", err)
	}
	m := made{}
	if p.compares {
		if m.likeness, err = likenessOf(r.Image, r.Conditioning, r.Mask); err != nil {
			return leave(leftShape, "%v", err)
		}
	}
	drawn := ""
	if !p.spec.None() {
		c := p.spec.Draw(p.Seed, int64(i), 0)
		drawn = c.String()
		if conditioning, err = c.Apply(image); err != nil {
			return leave(leftShape, "%v", err)
		}
	}
	shown := r.Conditioning
	if shown == nil {
		shown = conditioning
	}
	if left := p.empty(shown, r.Mask, captions); left.why != "" {
		return left
	}
	m.err = p.fill(&m, i, r, map[string]*imaging.RGB{
		columnImage: image, columnConditioning: conditioning, columnMask: mask,
	}, captions, drawn)
	return m
}

// fill makes the values of the row's columns.
func (p *preparer) fill(m *made, i int, r data.Row, pictures map[string]*imaging.RGB, captions []string,
	drawn string,
) error {
	m.more = len(captions) > 1
	for _, c := range p.columns {
		var value any
		switch c.Name {
		case columnImage, columnConditioning, columnMask:
			picture := pictures[c.Name]
			if picture == nil {
				break
			}
			file, copied, err := p.encode(c.Name, picture, r)
			if err != nil {
				return err
			}
			file.Path = fmt.Sprintf("%07d.%s", i, file.Path)
			m.copied = m.copied || copied && c.Name == columnImage
			m.bytes += int64(len(file.Bytes))
			value = file
		case columnText:
			if len(captions) > 0 {
				value = captions[0]
				m.bytes += int64(len(captions[0]))
			}
		case columnCaptions:
			value, m.more = captions, false
		case columnCondition:
			value = drawn
		default:
			if text, ok := r.Extra[c.Name]; ok {
				value = text
				m.bytes += int64(len(text))
			}
		}
		m.values = append(m.values, value)
	}
	return nil
}

// signaturePNG begins PNG files.
var signaturePNG = []byte("\x89PNG\r\n\x1a\n")

// encode is the file of a picture of a row, with its extension as the path: the file that it was decoded from if that
// has the same pixels for every reader, or is a condition of 16-bit gray as PNG.
func (p *preparer) encode(column string, m *imaging.RGB, r data.Row) (file parquetfile.Image, copied bool, err error) {
	source := map[string]struct {
		decoded *imaging.RGB
		raw     []byte
	}{
		columnImage: {r.Image, r.Encoded.Image}, columnConditioning: {r.Conditioning, r.Encoded.Conditioning},
		columnMask: {r.Mask, r.Encoded.Mask},
	}[column]
	if m == source.decoded {
		format := imaging.Plain(source.raw)
		deep := data.ColumnNote{Column: p.reading.ConditioningImageColumn, Note: imaging.NoteGray16}
		if column == columnConditioning && slices.Contains(r.Notes, deep) && bytes.HasPrefix(source.raw, signaturePNG) {
			format = "png" // training takes all 16 bits
		}
		if format != "" {
			return parquetfile.Image{Bytes: source.raw, Path: extension(format)}, true, nil
		}
	}
	if column == columnImage && p.Format == "jpeg" {
		raw, err := imaging.Encode(m, "jpeg", nil)
		return parquetfile.Image{Bytes: raw, Path: extension("jpeg")}, false, err
	}
	encoder, _ := p.encoders.Get().(*imaging.PNGEncoder)
	if encoder == nil {
		encoder = new(imaging.PNGEncoder)
	}
	defer p.encoders.Put(encoder)
	raw, err := encoder.Encode(m)
	return parquetfile.Image{Bytes: bytes.Clone(raw), Path: extension("png")}, false, err
}

func extension(format string) string {
	if format == "jpeg" {
		return "jpg"
	}
	return format
}

// fit resizes and crops a picture that belongs to a row's image, or is that.
func (p *preparer) fit(m, image *imaging.RGB, filter imaging.Filter) (*imaging.RGB, error) {
	side := p.Resolution
	if p.BucketArea > 0 {
		side = p.BucketArea
	}
	if m != image {
		cropped := side
		if side == 0 {
			cropped = min(m.Width, m.Height, image.Width, image.Height)
		}
		view := data.View{Width: image.Width, Height: image.Height}
		if err := data.SameShape(view, m.Width, m.Height, cropped); err != nil {
			return nil, err
		}
	}
	switch {
	case p.BucketArea > 0:
		s := nearest(p.buckets, image.Width, image.Height)
		return imaging.Cover(m, s.width, s.height, filter)
	case p.Resolution > 0:
		return imaging.Fit(m, p.Resolution, filter)
	}
	return m, nil
}

// unfit says why a row is left out for its size, its shape, its scores or its quality.
func (p *preparer) unfit(r data.Row) made {
	short, long := min(r.Image.Width, r.Image.Height), max(r.Image.Width, r.Image.Height)
	switch {
	case short < p.MinSide:
		return leave(leftSmall, "%d×%d pixels, want %d at the shorter side", r.Image.Width, r.Image.Height, p.MinSide)
	case p.MaxAspect > 0 && float64(long) > p.MaxAspect*float64(short):
		return leave(leftOblong, "%d×%d pixels, want at most %g times the shorter side",
			r.Image.Width, r.Image.Height, p.MaxAspect)
	}
	for _, bound := range []struct {
		limits  map[string]float64
		word    string
		outside func(x, limit float64) bool
	}{
		{p.MinScore, "at least", func(x, limit float64) bool { return !(x >= limit) }},
		{p.MaxScore, "at most", func(x, limit float64) bool { return !(x <= limit) }},
	} {
		for _, name := range slices.Sorted(maps.Keys(bound.limits)) {
			limit := bound.limits[name]
			x, err := strconv.ParseFloat(r.Extra[name], 64)
			if err != nil {
				return leave(leftScore, "%s is no number: %q", name, r.Extra[name])
			}
			if bound.outside(x, limit) {
				return leave(leftScore, "%s is %g, want %s %g", name, x, bound.word, limit)
			}
		}
	}
	if p.MinVariation > 0 {
		if x := quality.Variation(r.Image); x < p.MinVariation {
			return leave(leftBlank, "%.2g of the pixels differ from the background, want %g", x, p.MinVariation)
		}
	}
	if p.MinSharpness > 0 {
		if x := quality.Sharpness(r.Image); x < p.MinSharpness {
			return leave(leftBlurred, "a sharpness of %.1f, want %g", x, p.MinSharpness)
		}
	}
	return made{}
}

// empty says why a row is left out for what belongs to its image: a condition or a mask that shows nothing, captions
// that say nothing. Both pictures may be nil.
func (p *preparer) empty(conditioning, mask *imaging.RGB, captions []string) made {
	if p.MinConditionVariation > 0 && conditioning != nil {
		if x := quality.Variation(conditioning); x < p.MinConditionVariation {
			return leave(leftCondition, "%.2g of the pixels differ from the background, want %g",
				x, p.MinConditionVariation)
		}
	}
	if p.DropBlackMasks && mask != nil && mask.Black() {
		return leave(leftMask, "nothing of the image would count in the loss")
	}
	says := func(caption string) bool { return strings.TrimSpace(caption) != "" }
	if p.DropEmptyCaptions && !slices.ContainsFunc(captions, says) {
		return leave(leftCaption, "it is empty")
	}
	return made{}
}
