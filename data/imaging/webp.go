package imaging

import (
	"encoding/binary"
	"image"
)

// fromWebP converts the planes of a lossy WebP as libwebp does. They have limited range, but the standard library
// converts them as full range, as in JPEG.
func fromWebP(m image.Image) *RGB {
	switch m := m.(type) {
	case *image.YCbCr:
		return fromVP8(m)
	case *image.NYCbCrA:
		return fromVP8(&m.YCbCr)
	}
	return toRGB(m)
}

func fromVP8(m *image.YCbCr) *RGB {
	width, height := m.Rect.Dx(), m.Rect.Dy()
	out := NewRGB(width, height)
	cw, ch := (width+1)/2, (height+1)/2
	for y := range height {
		near := y / 2
		far := min(max(near+2*(y%2)-1, 0), ch-1)
		for x := range width {
			nearX := x / 2
			farX := min(max(nearX+2*(x%2)-1, 0), cw-1)
			at := [4]int{near*m.CStride + nearX, near*m.CStride + farX, far*m.CStride + nearX, far*m.CStride + farX}
			r, g, b := vp8Colour(int32(m.Y[y*m.YStride+x]), vp8Chroma(m.Cb, at), vp8Chroma(m.Cr, at))
			copy(out.Pix[(y*width+x)*3:], []uint8{r, g, b})
		}
	}
	return out
}

// vp8Chroma weights the four samples around a pixel 9:3:3:1, rounded in two steps as in libwebp.
func vp8Chroma(plane []uint8, at [4]int) int32 {
	near, beside, above, corner := int32(plane[at[0]]), int32(plane[at[1]]), int32(plane[at[2]]), int32(plane[at[3]])
	diagonal := (near + beside + above + corner + 8 + 2*(beside+above)) >> 3
	return (diagonal + near) >> 1
}

// vp8Colour is libwebp's conversion from BT.601 of limited range, in 14 bits of fixed point.
func vp8Colour(y, u, v int32) (r, g, b uint8) {
	high := func(a, scale int32) int32 { return a * scale >> 8 }
	luma := high(y, 19077)
	r = clip8((luma + high(v, 26149) - 14234) >> 6)
	g = clip8((luma - high(u, 6419) - high(v, 13320) + 8708) >> 6)
	b = clip8((luma + high(u, 33050) - 17685) >> 6)
	return r, g, b
}

// webpChunk finds the first chunk of a name among chunks.
func webpChunk(chunks []byte, name string) (data []byte, ok bool) {
	for rest := chunks; len(rest) >= 8; {
		n := int64(binary.LittleEndian.Uint32(rest[4:]))
		if n > int64(len(rest)-8) {
			return nil, false
		}
		if string(rest[:4]) == name {
			return rest[8 : 8+n], true
		}
		rest = rest[min(int64(len(rest)), 8+n+n%2):]
	}
	return nil, false
}

// appendWebPChunk appends a chunk, padded to an even length.
func appendWebPChunk(body []byte, name string, data []byte) []byte {
	body = append(body, name...)
	body = binary.LittleEndian.AppendUint32(body, uint32(len(data)))
	body = append(body, data...)
	if len(data)%2 == 1 {
		body = append(body, 0)
	}
	return body
}

// webpExtended begins the chunks of a file of the extended format.
func webpExtended(flags byte, width, height int) []byte {
	w, h := width-1, height-1
	return appendWebPChunk(nil, "VP8X",
		[]byte{flags, 0, 0, 0, byte(w), byte(w >> 8), byte(w >> 16), byte(h), byte(h >> 8), byte(h >> 16)})
}

// webpFile is the file of some chunks.
func webpFile(body []byte) []byte {
	out := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(4+len(body)))
	return append(append(out, "WEBP"...), body...)
}
