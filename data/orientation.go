package data

import (
	"bytes"
	"encoding/binary"
)

// exifOrientation returns the Orientation tag (1 to 8) of a JPEG; 1, upright, where there is none.
func exifOrientation(raw []byte) int {
	for at := 2; at+4 <= len(raw) && raw[at] == 0xff; {
		marker, size := raw[at+1], int(binary.BigEndian.Uint16(raw[at+2:]))
		if marker == 0xda || size < 2 || at+2+size > len(raw) { // the picture data begin
			return 1
		}
		body := raw[at+4 : at+2+size]
		if tiff, ok := bytes.CutPrefix(body, []byte("Exif\x00\x00")); ok && marker == 0xe1 {
			return tiffOrientation(tiff)
		}
		at += 2 + size
	}
	return 1
}

func tiffOrientation(tiff []byte) int {
	const entrySize, orientationTag = 12, 0x0112
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.LittleEndian
	if tiff[0] == 'M' {
		order = binary.BigEndian
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 1
	}
	count := int(order.Uint16(tiff[at:]))
	for i := range count {
		entry := at + 2 + int64(i)*entrySize
		if entry+entrySize > int64(len(tiff)) {
			return 1
		}
		if e := tiff[entry:]; order.Uint16(e) == orientationTag {
			if v := int(order.Uint16(e[8:])); v >= 1 && v <= 8 {
				return v
			}
			return 1
		}
	}
	return 1
}

// orient turns an image upright by its EXIF orientation.
func orient(m *RGB, orientation int) *RGB {
	if orientation <= 1 || orientation > 8 {
		return m
	}
	out := NewRGB(m.Width, m.Height)
	if orientation >= 5 {
		out = NewRGB(m.Height, m.Width)
	}
	right, bottom := m.Width-1, m.Height-1
	for y := range out.Height {
		for x := range out.Width {
			var sx, sy int
			switch orientation {
			case 2: // mirrored
				sx, sy = right-x, y
			case 3: // upside down
				sx, sy = right-x, bottom-y
			case 4:
				sx, sy = x, bottom-y
			case 5: // transposed
				sx, sy = y, x
			case 6: // to be turned clockwise
				sx, sy = y, bottom-x
			case 7:
				sx, sy = right-y, bottom-x
			case 8: // to be turned counter-clockwise
				sx, sy = right-y, x
			}
			copy(out.Pix[(y*out.Width+x)*3:][:3], m.Pix[(sy*m.Width+sx)*3:])
		}
	}
	return out
}
