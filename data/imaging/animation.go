package imaging

import (
	"bytes"
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
