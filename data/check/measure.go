package check

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"

	"limner/data"
	"limner/data/imaging"
	"limner/data/quality"
)

// measured is what is measured of a row, by several goroutines at once.
type measured struct {
	row data.Row // whose pictures are dropped when the row is tallied
	err error    // the row cannot be read

	print            quality.Print
	sharpness        float64
	variation        float64
	image, condition *quality.Edges // condition: nil without one
	conditionShown   float64        // variation of the condition
	correlation      float64        // of the edges of image and condition
	turn             quality.Turn
	turned           float64        // the correlation when the condition is turned so
	levels           map[string]int // the highest level of 255 of 16-bit grays, by column
	shape            error          // pictures differ in shape
	blackMask        bool
	tokens, most     int    // of the longest caption, and how many are read
	rest             uint64 // a hash of condition, mask and captions
}

// measure measures a row.
func measure(p part, o Options, r data.Row, err error) *measured {
	m := &measured{row: r, err: err}
	if err != nil {
		return m
	}
	reduced, err := quality.Reduce(r.Image)
	if err != nil {
		m.err = err
		return m
	}
	m.print, m.image = reduced.Print(), reduced.Edges()
	m.sharpness, m.variation = quality.Sharpness(r.Image), quality.Variation(r.Image)
	rest := sha256.New()
	if r.Conditioning != nil {
		reduced, err := quality.Reduce(r.Conditioning)
		if err != nil {
			m.err = err
			return m
		}
		m.condition = reduced.Edges()
		m.conditionShown = quality.Variation(r.Conditioning)
		m.correlation = m.image.Correlation(m.condition)
		m.turn, m.turned = m.image.BestTurn(m.condition)
		rest.Write(reduced.Sum[:])
	}
	if r.Mask != nil {
		m.blackMask = r.Mask.Black()
		rest.Write(r.Mask.Pix)
	}
	for _, caption := range r.Captions {
		io.WriteString(rest, "\x00"+caption)
		for _, tokenizer := range o.Tokenizers {
			if n := len(tokenizer.Encode(caption)) + 2; n >= m.tokens {
				m.tokens, m.most = n, tokenizer.MaxLength()
			}
		}
	}
	m.rest = binary.LittleEndian.Uint64(rest.Sum(nil))
	m.shape = errors.Join(
		sameShape(r, p.options.ConditioningImageColumn, r.Conditioning, o.Resolution),
		sameShape(r, p.options.MaskColumn, r.Mask, o.Resolution))
	for _, note := range r.Notes {
		if note.Note != imaging.NoteGray16 {
			continue
		}
		if m.levels == nil {
			m.levels = map[string]int{}
		}
		m.levels[note.Column] = highest(map[string]*imaging.RGB{
			p.options.ImageColumn: r.Image, p.options.ConditioningImageColumn: r.Conditioning,
			p.options.MaskColumn: r.Mask,
		}[note.Column])
	}
	return m
}

// sameShape fails if a picture differs so much in shape from its row's image that training passes the row over.
func sameShape(r data.Row, column string, m *imaging.RGB, resolution int) error {
	if m == nil {
		return nil
	}
	view := data.View{Width: r.Image.Width, Height: r.Image.Height}
	if err := data.SameShape(view, m.Width, m.Height, resolution); err != nil {
		return fmt.Errorf("%s: %w", column, err)
	}
	return nil
}

// highest is the largest value of a picture.
func highest(m *imaging.RGB) int {
	most := uint8(0)
	for _, v := range m.Pix {
		most = max(most, v)
	}
	return int(most)
}

// truncated says whether reading a row failed because its bytes end early.
func truncated(err error) bool {
	var ofPNG png.FormatError
	var ofJPEG jpeg.FormatError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.As(err, &ofPNG) && ofPNG == "not enough pixel data" ||
		errors.As(err, &ofJPEG) && ofJPEG == "short Huffman data"
}
