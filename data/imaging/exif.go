package imaging

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// The tags of EXIF that are read, and the pointer to the folder in which the user comment lies.
const (
	tagDescription = 0x010e
	tagOrientation = 0x0112
	tagExif        = 0x8769
	tagUserComment = 0x9286
)

const (
	exifASCII     = 2
	exifShort     = 3
	exifLong      = 4
	exifUndefined = 7
)

// exifHead precedes the TIFF structure in a JPEG segment.
const exifHead = "Exif\x00\x00"

// userUnicode is the prefix of a user comment in UTF-16, in the file's byte order, as A1111 writes it.
const userUnicode = "UNICODE\x00"

// exifTexts is a TIFF structure with those of the texts that EXIF has a tag for; nil if there are none.
func exifTexts(texts []Text) []byte {
	var description, comment []byte
	for _, text := range texts {
		switch text.Key {
		case TextLimner:
			description = append([]byte(text.Value), 0)
		case TextParameters:
			comment = []byte(userUnicode)
			for _, unit := range utf16.Encode([]rune(text.Value)) {
				comment = binary.BigEndian.AppendUint16(comment, unit)
			}
		}
	}
	if description == nil && comment == nil {
		return nil
	}
	// Big-endian: the header, a folder of two entries, a folder of one, then the values.
	const first = 8
	second := first + 2 + 2*12 + 4
	values := second + 2 + 12 + 4
	out := append([]byte("MM\x00*"), 0, 0, 0, first)
	entry := func(tag, kind uint16, count, value int) {
		out = binary.BigEndian.AppendUint16(out, tag)
		out = binary.BigEndian.AppendUint16(out, kind)
		out = binary.BigEndian.AppendUint32(out, uint32(count))
		out = binary.BigEndian.AppendUint32(out, uint32(value))
	}
	// Values of up to four bytes would be in the entry itself.
	description = append(description, make([]byte, max(0, 5-len(description)))...)
	out = append(out, 0, 2)
	entry(tagDescription, exifASCII, len(description), values)
	entry(tagExif, exifLong, 1, second)
	out = append(out, 0, 0, 0, 0, 0, 1)
	comment = append(comment, make([]byte, max(0, 8-len(comment)))...)
	entry(tagUserComment, exifUndefined, len(comment), values+len(description))
	out = append(out, 0, 0, 0, 0)
	return append(append(out, description...), comment...)
}

// textsOfEXIF reads the texts of a TIFF structure. Damaged ones are left out.
func textsOfEXIF(tiff []byte) []Text {
	var texts []Text
	first, order := exifFolder(tiff)
	if value, ok := exifValue(tiff, order, first, tagDescription); ok {
		if text := strings.TrimRight(strings.ToValidUTF8(string(value), "\ufffd"), "\x00"); text != "" {
			texts = append(texts, Text{TextLimner, text})
		}
	}
	at, ok := exifValue(tiff, order, first, tagExif)
	if !ok || len(at) < 4 {
		return texts
	}
	comment, ok := exifValue(tiff, order, int64(order.Uint32(at)), tagUserComment)
	if !ok || len(comment) < len(userUnicode) {
		return texts
	}
	head, body := string(comment[:len(userUnicode)]), comment[len(userUnicode):]
	text := strings.ToValidUTF8(string(body), "\ufffd")
	if head == userUnicode {
		var units []uint16
		for i := 0; i+1 < len(body); i += 2 {
			units = append(units, order.Uint16(body[i:]))
		}
		text = string(utf16.Decode(units))
	}
	if text = strings.Trim(text, "\x00"); text != "" {
		texts = append(texts, Text{TextParameters, text})
	}
	return texts
}

// exifFolder is the offset of the first folder of a TIFF structure, and its byte order; -1 if the bytes are none.
func exifFolder(tiff []byte) (int64, binary.ByteOrder) {
	var order binary.ByteOrder = binary.BigEndian
	switch {
	case len(tiff) < 8:
		return -1, order
	case string(tiff[:4]) == "II*\x00":
		order = binary.LittleEndian
	case string(tiff[:4]) != "MM\x00*":
		return -1, order
	}
	return int64(order.Uint32(tiff[4:])), order
}

// exifValue is the value of a tag in the folder at an offset.
func exifValue(tiff []byte, order binary.ByteOrder, folder int64, tag uint16) ([]byte, bool) {
	size := int64(len(tiff))
	if folder < 8 || folder+2 > size {
		return nil, false
	}
	for i := range int64(order.Uint16(tiff[folder:])) {
		at := folder + 2 + 12*i
		if at+12 > size {
			return nil, false
		}
		if order.Uint16(tiff[at:]) != tag {
			continue
		}
		n := int64(order.Uint32(tiff[at+4:]))
		switch order.Uint16(tiff[at+2:]) {
		case exifShort:
			n *= 2
		case exifLong:
			n *= 4
		case exifASCII, exifUndefined:
		default:
			return nil, false
		}
		if n <= 4 {
			return tiff[at+8 : at+8+n], true
		}
		from := int64(order.Uint32(tiff[at+8:]))
		if from+n > size {
			return nil, false
		}
		return tiff[from : from+n], true
	}
	return nil, false
}

// exifOf is the TIFF structure of an image file's EXIF, or nil.
func exifOf(raw []byte) []byte {
	switch {
	case isJPEG(raw):
		return jpegEXIF(raw)
	case isPNG(raw):
		return pngEXIF(raw)
	case isWebP(raw):
		return webpEXIF(raw)
	case isTIFF(raw): // EXIF is a TIFF file's folders
		return raw
	}
	return nil
}

// jpegWithEXIF inserts an EXIF segment after a JPEG's first marker.
func jpegWithEXIF(raw, tiff []byte) ([]byte, error) {
	if tiff == nil {
		return raw, nil
	}
	n := 2 + len(exifHead) + len(tiff)
	if n > 0xffff {
		return nil, fmt.Errorf("JPEG holds at most %d bytes of EXIF, what the image is made of takes %d: "+
			"use png or webp", 0xffff, n)
	}
	out := append(bytes.Clone(raw[:2]), 0xff, 0xe1, byte(n>>8), byte(n))
	return append(append(append(out, exifHead...), tiff...), raw[2:]...), nil
}

// jpegEXIF is the TIFF structure of a JPEG's EXIF, or nil.
func jpegEXIF(raw []byte) []byte {
	for rest := raw[min(2, len(raw)):]; len(rest) >= 4 && rest[0] == 0xff; {
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if rest[1] == 0xda || n < 2 || 2+n > len(rest) {
			return nil
		}
		if tiff, ok := bytes.CutPrefix(rest[4:2+n], []byte(exifHead)); ok && rest[1] == 0xe1 {
			return tiff
		}
		rest = rest[2+n:]
	}
	return nil
}

// webpWithEXIF wraps a plain WebP file into the extended format, with EXIF.
func webpWithEXIF(raw []byte, width, height int, tiff []byte) []byte {
	if tiff == nil {
		return raw
	}
	const hasEXIF = 0x08
	body := webpExtended(hasEXIF, width, height)
	for _, name := range []string{"VP8L", "VP8 "} {
		if data, ok := webpChunk(raw[12:], name); ok {
			body = appendWebPChunk(body, name, data)
		}
	}
	return webpFile(appendWebPChunk(body, "EXIF", tiff))
}

// webpEXIF is the TIFF structure of a WebP file's EXIF, or nil.
func webpEXIF(raw []byte) []byte {
	tiff, _ := webpChunk(raw[12:], "EXIF")
	return bytes.TrimPrefix(tiff, []byte(exifHead))
}

// pngEXIF is the TIFF structure of a PNG file's EXIF, or nil.
func pngEXIF(raw []byte) []byte {
	for rest := raw[len(pngSignature):]; len(rest) >= 12; {
		n := int64(binary.BigEndian.Uint32(rest))
		if n > int64(len(rest)-12) {
			return nil
		}
		if string(rest[4:8]) == "eXIf" {
			return bytes.TrimPrefix(rest[8:8+n], []byte(exifHead))
		}
		rest = rest[12+n:]
	}
	return nil
}
