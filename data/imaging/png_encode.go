package imaging

// #include "vector.h"
import "C"

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"

	"github.com/klauspost/compress/zlib"
)

// EncodePNG returns the image as a PNG file, whose bytes depend on the pixels alone.
func EncodePNG(m image.Image) ([]byte, error) { return new(PNGEncoder).Encode(m) }

// PNGEncoder encodes images as PNG files, one at a time, and reuses its memory: setting that up takes longer than
// compressing a small image.
type PNGEncoder struct {
	pool    pngBuffer
	zlib    *zlib.Writer
	file    bytes.Buffer
	rows    []uint8 // filtered by each filter
	out     []uint8 // the best of them, with its filter before it
	nothing []uint8 // above the first row
}

// Encode returns the image as a PNG file. Those of RGB take a third of the time of others, which image/png encodes.
func (e *PNGEncoder) Encode(m image.Image) ([]byte, error) {
	if rgb, ok := m.(*RGB); ok {
		return e.encodeRGB(rgb)
	}
	encoder, buf := png.Encoder{BufferPool: &e.pool}, bytes.Buffer{}
	if err := encoder.Encode(&buf, m); err != nil {
		return nil, fmt.Errorf("encode PNG: %w", err)
	}
	return buf.Bytes(), nil
}

// encodeRGB filters each row by the filter that leaves the least, as libpng does.
func (e *PNGEncoder) encodeRGB(m *RGB) ([]byte, error) {
	const mostSide, filters = 1<<31 - 1, 5
	if m.Width < 1 || m.Height < 1 || m.Width > mostSide || m.Height > mostSide {
		return nil, fmt.Errorf("encode PNG: an image of %d×%d pixels", m.Width, m.Height)
	}
	e.file.Reset()
	e.file.WriteString(pngSignature)
	header := binary.BigEndian.AppendUint32(nil, uint32(m.Width))
	header = append(binary.BigEndian.AppendUint32(header, uint32(m.Height)), 8, 2, 0, 0, 0) // 8 bits, RGB
	e.begin("IHDR")
	e.file.Write(header)
	e.end(len(header))

	e.begin("IDAT")
	begin := e.file.Len()
	if e.zlib == nil {
		e.zlib = zlib.NewWriter(nil)
	}
	e.zlib.Reset(&e.file)
	stride := m.Width * 3
	rows, out := grown(&e.rows, filters*stride), grown(&e.out, 1+stride)
	above := grown(&e.nothing, stride)
	clear(above)
	for y := range m.Height {
		row := m.Pix[y*stride : (y+1)*stride]
		C.limner_filter(bytesOf(row), bytesOf(above), bytesOf(out), C.long(stride), bytesOf(rows))
		if _, err := e.zlib.Write(out); err != nil {
			return nil, fmt.Errorf("encode PNG: %w", err)
		}
		above = row
	}
	if err := e.zlib.Close(); err != nil {
		return nil, fmt.Errorf("encode PNG: %w", err)
	}
	packed := e.file.Len() - begin
	if packed > mostSide {
		return nil, errors.New("encode PNG: the image is too large for a PNG file")
	}
	e.end(packed)
	e.begin("IEND")
	e.end(0)
	return bytes.Clone(e.file.Bytes()), nil
}

// begin begins a chunk, whose length end fills in.
func (e *PNGEncoder) begin(name string) { e.file.WriteString("\x00\x00\x00\x00" + name) }

// end completes the chunk of the last n bytes.
func (e *PNGEncoder) end(n int) {
	chunk := e.file.Bytes()[e.file.Len()-n-8:]
	binary.BigEndian.PutUint32(chunk, uint32(n))
	e.file.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(chunk[4:])))
}

// pngBuffer lets one goroutine's encoder reuse its memory; without it, setting up the compressor costs more than
// compressing a small image.
type pngBuffer struct{ buffer *png.EncoderBuffer }

// Get implements png.EncoderBufferPool.
func (p *pngBuffer) Get() *png.EncoderBuffer { return p.buffer }

// Put implements png.EncoderBufferPool.
func (p *pngBuffer) Put(b *png.EncoderBuffer) { p.buffer = b }
