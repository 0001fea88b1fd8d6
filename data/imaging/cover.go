package imaging

import (
	"fmt"
	"image"
)

// Cover resizes the image to the smallest size of its shape that covers width×height, and crops the centre. An image of
// that size is returned unchanged.
func Cover(m *RGB, width, height int, filter Filter) (*RGB, error) {
	if m.Width == width && m.Height == height {
		return m, nil
	}
	if m.Width < 1 || m.Height < 1 || width < 1 || height < 1 {
		return nil, fmt.Errorf("fit %d×%d to %d×%d: sides must be at least 1", m.Width, m.Height, width, height)
	}
	// The longer of the two sides, in relation to what is wanted, is rounded and cropped.
	w, h := int64(width), int64(height)
	if across, down := w*int64(m.Height), h*int64(m.Width); across > down {
		h = (across + int64(m.Width)/2) / int64(m.Width)
	} else {
		w = (down + int64(m.Height)/2) / int64(m.Height)
	}
	if w*h > MaxPixels {
		return nil, fmt.Errorf("fit %d×%d to %d×%d: the picture is too oblong, it would be %d×%d before the crop",
			m.Width, m.Height, width, height, w, h)
	}
	left, top := (int(w)-width)/2, (int(h)-height)/2
	return resizePart(m, int(w), int(h), filter, image.Rect(left, top, left+width, top+height))
}
