package imaging

// exifOrientation returns the Orientation tag (1 to 8) of a JPEG, PNG or WebP file; 1, upright, where there is none.
func exifOrientation(raw []byte) int {
	tiff := exifOf(raw)
	folder, order := exifFolder(tiff)
	value, ok := exifValue(tiff, order, folder, tagOrientation)
	if !ok || len(value) < 2 {
		return 1
	}
	if v := int(order.Uint16(value)); v >= 1 && v <= 8 {
		return v
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
