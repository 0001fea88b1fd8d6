package imaging

// #include "vector.h"
//
// static void ycc(const uint8_t *luma, const uint8_t *blue, const uint8_t *red, long luma_stride, long chroma_stride,
//     long width, long height, int step_x, int step_y, uint16_t *scratch, uint8_t *to) {
//     planes p = {luma, blue, red, luma_stride, chroma_stride, width, height, step_x, step_y};
//     limner_ycc(&p, scratch, to);
// }
import "C"

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"sync"
	"unsafe"
)

// decodeJPEG decodes the commonest files, baseline ones of gray or YCbCr, to libjpeg's bytes, in less than half of the
// time that image/jpeg takes, whose inverse DCT is another. All others, and what is damaged, are left to image/jpeg,
// which decides what is refused.
func decodeJPEG(raw []byte) (image.Image, error) {
	if m := baselineJPEG(raw); m != nil {
		return m, nil
	}
	return jpeg.Decode(bytes.NewReader(raw))
}

// jpegFrame is what the segments before a JPEG's scan say.
type jpegFrame struct {
	width, height int
	components    []jpegComponent
	quantization  [4][64]uint16 // in the order of a block
	quantized     [4]bool       // tables that are there
	tables        [2][2]huffman // of first coefficients and of the rest
	restart       int           // blocks of a scan's columns between restarts; 0: none
	ycc           bool          // no marker says that three components are another space than YCbCr
}

// jpegComponent is a plane of a frame.
type jpegComponent struct {
	id                 byte
	across, down       int // blocks of a minimum coded unit
	quantization       int
	first, rest        *huffman
	dc                 int32
	pix                []uint8
	stride             int
	coefficients       []int16 // of a row of minimum coded units
	blocksAcross, step int     // blocks of a row, and coefficients of it
}

// jpegMemory is used again for the next picture.
type jpegMemory struct {
	samples      []uint8
	coefficients []int16
	data         []byte
	scratch      []uint16
}

var jpegPool = sync.Pool{New: func() any { return new(jpegMemory) }}

// grown is memory of length n.
func grown[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	*s = (*s)[:n]
	return *s
}

// baselineJPEG decodes a baseline file of one scan of all its components, gray or YCbCr. It returns nil for others, and
// for files with anything unusual or wrong.
func baselineJPEG(raw []byte) image.Image {
	f := jpegFrame{ycc: true}
	scan := f.header(raw)
	if scan == nil {
		return nil
	}
	memory := jpegPool.Get().(*jpegMemory)
	defer jpegPool.Put(memory)
	if !f.decode(scan, memory) {
		return nil
	}
	if y := f.components[0]; len(f.components) == 1 {
		m := image.NewGray(image.Rect(0, 0, f.width, f.height))
		for row := range f.height {
			copy(m.Pix[row*m.Stride:][:f.width], y.pix[row*y.stride:])
		}
		return m
	}
	return f.rgb(memory)
}

// header reads the segments up to the scan, whose data it returns; nil if the file is not of the kind.
func (f *jpegFrame) header(raw []byte) (scan []byte) {
	if !bytes.HasPrefix(raw, []byte{0xff, 0xd8}) {
		return nil
	}
	for at := 2; at+4 <= len(raw); {
		if raw[at] != 0xff {
			return nil
		}
		marker, n := raw[at+1], int(binary.BigEndian.Uint16(raw[at+2:]))
		if n < 2 || at+2+n > len(raw) {
			return nil
		}
		segment := raw[at+4 : at+2+n]
		at += 2 + n
		ok := true
		switch {
		case marker == 0xc0: // the frame of a baseline file
			ok = f.frame(segment)
		case marker == 0xc4:
			ok = f.huffmanTables(segment)
		case marker == 0xdb:
			ok = f.quantizationTables(segment)
		case marker == 0xdd:
			if ok = len(segment) == 2; ok {
				f.restart = int(binary.BigEndian.Uint16(segment))
			}
		case marker == 0xda:
			if !f.scan(segment) {
				return nil
			}
			return raw[at:]
		case marker == 0xee: // Adobe's, which may say that the components are RGB
			const transform, toYCC = 11, 1
			if bytes.HasPrefix(segment, []byte("Adobe")) && (len(segment) <= transform || segment[transform] != toYCC) {
				f.ycc = false
			}
		case marker >= 0xe0 && marker <= 0xef || marker == 0xfe: // of applications, and comments
		default:
			ok = false
		}
		if !ok {
			return nil
		}
	}
	return nil
}

func (f *jpegFrame) frame(segment []byte) bool {
	if f.components != nil || len(segment) < 6 || segment[0] != 8 {
		return false
	}
	f.height, f.width = int(binary.BigEndian.Uint16(segment[1:])), int(binary.BigEndian.Uint16(segment[3:]))
	n := int(segment[5])
	if n != 1 && n != 3 || len(segment) != 6+3*n || f.width < 1 || f.height < 1 || f.width*f.height > MaxPixels {
		return false
	}
	for ; len(f.components) < n; segment = segment[3:] {
		s := segment[6:9]
		for _, c := range f.components {
			if c.id == s[0] {
				return false
			}
		}
		c := jpegComponent{id: s[0], across: int(s[1] >> 4), down: int(s[1] & 15), quantization: int(s[2])}
		most := 1 // blocks of chroma in each direction
		if len(f.components) == 0 {
			most = 2
		}
		if c.across < 1 || c.across > most || c.down < 1 || c.down > most || c.quantization > 3 {
			return false
		}
		if n == 1 { // its blocks are in rows, whatever it says
			c.across, c.down = 1, 1
		}
		f.components = append(f.components, c)
	}
	return n == 1 || f.components[0].id != 'R' || f.components[1].id != 'G' || f.components[2].id != 'B'
}

func (f *jpegFrame) huffmanTables(segment []byte) bool {
	for len(segment) > 0 {
		if len(segment) < 17 || segment[0]>>4 > 1 || segment[0]&15 > 1 {
			return false
		}
		n := 0
		for _, count := range segment[1:17] {
			n += int(count)
		}
		if n < 1 || n > 256 || 17+n > len(segment) {
			return false
		}
		if !f.tables[segment[0]>>4][segment[0]&15].set(segment[1:17], segment[17:17+n]) {
			return false
		}
		segment = segment[17+n:]
	}
	return true
}

func (f *jpegFrame) quantizationTables(segment []byte) bool {
	for len(segment) > 0 {
		const size = 1 + 64
		if len(segment) < size || segment[0] > 3 { // more: of 16 bits
			return false
		}
		f.quantized[segment[0]] = true
		for i, v := range segment[1:size] {
			f.quantization[segment[0]][zigzag[i]] = uint16(v)
		}
		segment = segment[size:]
	}
	return true
}

// scan reads the header of a scan, which must have all components in their order.
func (f *jpegFrame) scan(segment []byte) bool {
	n := len(f.components)
	if n == 0 || len(segment) != 4+2*n || int(segment[0]) != n || !bytes.Equal(segment[1+2*n:], []byte{0, 63, 0}) {
		return false
	}
	for i := range f.components {
		c, tables := &f.components[i], segment[2+2*i]
		if segment[1+2*i] != c.id || tables>>4 > 1 || tables&15 > 1 || !f.quantized[c.quantization] {
			return false
		}
		c.first, c.rest = &f.tables[0][tables>>4], &f.tables[1][tables&15]
		if !c.first.known || !c.rest.known {
			return false
		}
	}
	return n == 1 || f.ycc
}

// decode decodes the scan into the components' planes.
func (f *jpegFrame) decode(scan []byte, memory *jpegMemory) bool {
	across, down := f.components[0].across, f.components[0].down
	columns := (f.width + 8*across - 1) / (8 * across)
	rows := (f.height + 8*down - 1) / (8 * down)
	blocks := 0
	for i := range f.components {
		blocks += f.components[i].across * f.components[i].down
	}
	const leastBits = 2 // of a block: one of each of its codes
	if columns*rows*blocks > 8/leastBits*len(scan) {
		return false
	}
	samples := grown(&memory.samples, columns*rows*blocks*64)
	coefficients := grown(&memory.coefficients, columns*blocks*64)
	for i := range f.components {
		c := &f.components[i]
		c.blocksAcross, c.stride = columns*c.across, columns*c.across*8
		n := c.stride * rows * c.down * 8
		c.pix, samples = samples[:n], samples[n:]
		c.step = c.blocksAcross * 64
		c.coefficients, coefficients = coefficients[:c.step*c.down], coefficients[c.step*c.down:]
	}
	data := grown(&memory.data, len(scan))
	var r bitReader
	left := 0 // minimum coded units until the next restart
	if f.restart == 0 {
		left = columns * rows
	}
	for restarts, row := 0, 0; row < rows; row++ {
		clear(memory.coefficients)
		for column := range columns {
			if row == 0 && column == 0 || left == 0 {
				if restarts > 0 {
					if scan = r.restarted(scan, restarts-1); scan == nil {
						return false
					}
				}
				if r.data, scan = unstuff(data, scan); r.data == nil {
					return false
				}
				r = bitReader{data: r.data}
				for i := range f.components {
					f.components[i].dc = 0
				}
				if restarts++; f.restart > 0 {
					left = f.restart
				}
			}
			left--
			for i := range f.components {
				c := &f.components[i]
				for y := range c.down {
					for x := range c.across {
						to := c.coefficients[y*c.step+(column*c.across+x)*64:]
						if !r.block((*[64]int16)(to), &c.dc, c.first, c.rest) {
							return false
						}
					}
				}
			}
		}
		if r.left() < 0 {
			return false
		}
		for i := range f.components {
			c := &f.components[i]
			for y := range c.down {
				C.limner_idct((*C.int16_t)(&c.coefficients[y*c.step]),
					(*C.uint16_t)(&f.quantization[c.quantization][0]), C.long(c.blocksAcross),
					bytesOf(c.pix[(row*c.down+y)*8*c.stride:]), C.long(c.stride))
			}
		}
	}
	return r.left() < 8 && bytes.HasPrefix(scan, []byte{0xff, 0xd9})
}

// restarted takes the marker that ends an interval; nil if the interval is not read to its end, or another marker is
// there.
func (r *bitReader) restarted(scan []byte, number int) []byte {
	if left := r.left(); left < 0 || left >= 8 || len(scan) < 2 || scan[1] != 0xd0+byte(number%8) {
		return nil
	}
	return scan[2:]
}

// unstuff takes entropy-coded data up to the next marker, without the zeros that are stuffed behind each 0xff.
func unstuff(to, scan []byte) (data, rest []byte) {
	n := 0
	for {
		i := bytes.IndexByte(scan, 0xff)
		if i < 0 || i+1 >= len(scan) {
			return nil, nil
		}
		if scan[i+1] != 0 {
			return to[:n+copy(to[n:], scan[:i])], scan[i:]
		}
		n += copy(to[n:], scan[:i+1])
		scan = scan[i+2:]
	}
}

// rgb converts the planes.
func (f *jpegFrame) rgb(memory *jpegMemory) *RGB {
	y, cb, cr := &f.components[0], &f.components[1], &f.components[2]
	out := NewRGB(f.width, f.height)
	scratch := grown(&memory.scratch, int(C.limner_ycc_scratch(C.long(f.width), C.int(y.across))/2))
	yccToRGB(y.pix, cb.pix, cr.pix, y.stride, cb.stride, y.across, y.down, scratch, out)
	return out
}

// yccToRGB converts planes whose chroma has a sample for stepX by stepY pixels.
func yccToRGB(y, cb, cr []uint8, stride, chromaStride, stepX, stepY int, scratch []uint16, out *RGB) {
	C.ycc(bytesOf(y), bytesOf(cb), bytesOf(cr), C.long(stride), C.long(chromaStride), C.long(out.Width),
		C.long(out.Height), C.int(stepX), C.int(stepY), (*C.uint16_t)(unsafe.SliceData(scratch)), bytesOf(out.Pix))
}
