package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"

	"golang.org/x/image/webp"
)

// animatedWebP says whether a WebP file is an animation: of the extended format, with the flag.
func animatedWebP(raw []byte) bool {
	const flags, animation = 20, 0x02
	return isWebP(raw) && len(raw) > flags && string(raw[12:16]) == "VP8X" && raw[flags]&animation != 0
}

// errNoFrame says that an animation's first frame is missing or damaged.
var errNoFrame = errors.New("webp: the animation has no whole first frame")

// animationConfig is the size of an animation's canvas, at most 1<<24 each way.
func animationConfig(raw []byte) (image.Config, error) {
	const size = 24
	if len(raw) < size+6 {
		return image.Config{}, errNoFrame
	}
	return image.Config{Width: 1 + uint24(raw[size:]), Height: 1 + uint24(raw[size+3:])}, nil
}

// firstFrame decodes an animation's first frame, which lies on the canvas where its bounds say. The decoder of
// golang.org/x/image reads still pictures alone, so the frame's chunks are given to it as one.
func firstFrame(raw []byte) (image.Image, error) {
	frame, ok := webpChunk(raw[12:], "ANMF")
	const head = 16 // x, y, width, height, duration, flags
	if !ok || len(frame) < head {
		return nil, errNoFrame
	}
	at := image.Pt(2*uint24(frame), 2*uint24(frame[3:]))
	width, height := 1+uint24(frame[6:]), 1+uint24(frame[9:])
	canvas, err := animationConfig(raw)
	if err != nil {
		return nil, err
	}
	bounds := image.Rectangle{Min: at, Max: at.Add(image.Pt(width, height))}
	if !bounds.In(image.Rect(0, 0, canvas.Width, canvas.Height)) {
		return nil, errNoFrame
	}
	const alpha = 0x10
	body := webpExtended(alpha, width, height)
	for _, name := range []string{"ALPH", "VP8 ", "VP8L"} {
		if data, ok := webpChunk(frame[head:], name); ok {
			body = appendWebPChunk(body, name, data)
		}
	}
	still := webpFile(body)
	if config, err := webp.DecodeConfig(bytes.NewReader(still)); err != nil {
		return nil, err
	} else if config.Width != width || config.Height != height {
		return nil, errNoFrame
	}
	m, err := webp.Decode(bytes.NewReader(still))
	if err != nil {
		return nil, err
	}
	if m.Bounds().Size() != bounds.Size() {
		return nil, errNoFrame
	}
	return moved(m, at), nil
}

// moved is a picture that the WebP decoder gave, with its bounds at a point.
func moved(m image.Image, at image.Point) image.Image {
	switch m := m.(type) {
	case *image.NRGBA:
		m.Rect = m.Rect.Add(at)
	case *image.YCbCr:
		m.Rect = m.Rect.Add(at)
	case *image.NYCbCrA:
		m.Rect = m.Rect.Add(at)
	}
	return m
}

// uint24 is a number of three bytes, the lowest first.
func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

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
