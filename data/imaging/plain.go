package imaging

import (
	"bytes"
	"encoding/binary"
	"image/color"
	"image/jpeg"
)

// Plain says in which format, "png" or "jpeg", an image file is whose pixels every program takes as [Decode] does: it
// has 8-bit colours or grays without alpha or palette, and is upright. "" is any other file.
func Plain(raw []byte) (format string) {
	switch {
	case exifOrientation(raw) > 1:
		return ""
	case isPNG(raw):
		// The header comes first: its length, IHDR, width, height, then bits and the type of colours.
		const bits, colours = 24, 25
		plain := len(raw) > colours && raw[bits] == 8 && (raw[colours] == 0 || raw[colours] == 2)
		if plain && !transparent(raw) {
			return "png"
		}
	case isJPEG(raw):
		config, err := jpeg.DecodeConfig(bytes.NewReader(raw))
		if err == nil && (config.ColorModel == color.YCbCrModel || config.ColorModel == color.GrayModel) {
			return "jpeg"
		}
	}
	return ""
}

// transparent says whether a PNG file makes one of its colours transparent.
func transparent(raw []byte) bool {
	for at := len(pngSignature); at+8 <= len(raw); {
		size, kind := int(binary.BigEndian.Uint32(raw[at:])), string(raw[at+4:at+8])
		if kind == "tRNS" {
			return true
		}
		if kind == "IDAT" || size > len(raw)-at-12 {
			return false
		}
		at += 12 + size
	}
	return false
}
