package imaging

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image/jpeg"
	"io"
	"strings"

	"github.com/HugoSmits86/nativewebp"
)

// Text is a text in an image file's metadata, under a key.
type Text struct {
	Key, Value string
}

// The keys of texts that every format can hold; PNG holds others too.
const (
	TextParameters = "parameters" // A1111's; in EXIF the user comment
	TextLimner     = "limner"     // JSON; in EXIF the image description
)

// Encode returns the image in a format, "png", "jpeg" (quality 95) or "webp" (without loss), with texts. PNG has them
// as text chunks, the others as EXIF.
func Encode(m *RGB, format string, texts []Text) ([]byte, error) {
	switch format {
	case "png":
		raw, err := EncodePNG(m)
		if err != nil {
			return nil, err
		}
		return pngWithTexts(raw, texts), nil
	case "jpeg":
		var b bytes.Buffer
		if err := jpeg.Encode(&b, m.NRGBA(), &jpeg.Options{Quality: 95}); err != nil {
			return nil, fmt.Errorf("encode JPEG: %w", err)
		}
		return jpegWithEXIF(b.Bytes(), exifTexts(texts))
	case "webp":
		var b bytes.Buffer
		if err := nativewebp.Encode(&b, m.NRGBA(), nil); err != nil {
			return nil, fmt.Errorf("encode WebP: %w", err)
		}
		return webpWithEXIF(b.Bytes(), m.Width, m.Height, exifTexts(texts)), nil
	}
	return nil, fmt.Errorf("image format %q: want png, jpeg or webp", format)
}

// Texts lists the texts in the metadata of a PNG, JPEG or WebP file.
func Texts(raw []byte) ([]Text, error) {
	switch {
	case isPNG(raw):
		return pngTexts(raw)
	case isJPEG(raw):
		return textsOfEXIF(jpegEXIF(raw)), nil
	case isWebP(raw):
		tiff := webpEXIF(raw)
		if len(tiff) > maxTextBytes {
			return nil, errTooMuchText
		}
		return textsOfEXIF(tiff), nil
	}
	return nil, errNoImage
}

// IsImage says whether bytes, at least 12, begin as the formats do that Texts reads.
func IsImage(raw []byte) bool {
	_, err := Texts(raw)
	return !errors.Is(err, errNoImage)
}

const (
	pngSignature = "\x89PNG\r\n\x1a\n"
	pngHeaderEnd = len(pngSignature) + 12 + 13 // after the IHDR chunk
)

// pngWithTexts inserts text chunks after the header: tEXt if Latin-1 has all characters, as PIL does, else iTXt.
func pngWithTexts(raw []byte, texts []Text) []byte {
	out := bytes.Clone(raw[:pngHeaderEnd])
	for _, text := range texts {
		kind, body := "tEXt", append([]byte(text.Key), 0)
		if latin, ok := latin1(text.Value); ok {
			body = append(body, latin...)
		} else {
			kind = "iTXt"
			body = append(body, 0, 0, 0, 0) // not compressed, no language, no translated key
			body = append(body, text.Value...)
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
		start := len(out)
		out = append(append(out, kind...), body...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[start:]))
	}
	return append(out, raw[pngHeaderEnd:]...)
}

// latin1 encodes a text in Latin-1, if that has all of its characters.
func latin1(text string) ([]byte, bool) {
	var out []byte
	for _, r := range text {
		if r > 0xff {
			return nil, false
		}
		out = append(out, byte(r))
	}
	return out, true
}

// Limits of the texts of one file, unpacked: more is no description of an image.
const (
	maxTextBytes = 1 << 24 // of all texts together
	maxTexts     = 1000
)

// pngTexts reads the text chunks of a PNG file.
func pngTexts(raw []byte) ([]Text, error) {
	var texts []Text
	left := maxTextBytes
	for rest := raw[len(pngSignature):]; ; {
		if len(rest) < 12 {
			return texts, errors.New("the PNG file ends before its last chunk")
		}
		n, kind := int64(binary.BigEndian.Uint32(rest)), string(rest[4:8])
		if n > int64(len(rest)-12) {
			return texts, fmt.Errorf("the PNG file ends within its chunk %q", kind)
		}
		body := rest[8 : 8+n]
		rest = rest[12+n:]
		if kind == "IEND" {
			return texts, nil
		}
		text, ok, err := pngText(kind, body, left)
		if err != nil {
			return texts, fmt.Errorf("PNG chunk %s: %w", kind, err)
		}
		if !ok {
			continue
		}
		if len(texts) == maxTexts {
			return texts, fmt.Errorf("the PNG file has more than %d texts", maxTexts)
		}
		texts = append(texts, text)
		left -= len(text.Key) + len(text.Value)
	}
}

// pngText reads a chunk, if it is a text. It fails if key and text are longer than limit bytes.
func pngText(kind string, body []byte, limit int) (text Text, ok bool, err error) {
	if kind != "tEXt" && kind != "zTXt" && kind != "iTXt" {
		return text, false, nil
	}
	key, body, found := bytes.Cut(body, []byte{0})
	if !found {
		return text, false, nil
	}
	if len(key)+len(body) > limit {
		return text, false, errTooMuchText
	}
	text.Key = fromLatin1(key)
	limit -= len(text.Key)
	switch kind {
	case "tEXt":
		text.Value = fromLatin1(body)
	case "zTXt":
		if len(body) < 1 || body[0] != 0 {
			return text, false, errors.New("unknown compression")
		}
		unpacked, err := inflate(body[1:], limit)
		if err != nil {
			return text, false, err
		}
		text.Value = fromLatin1(unpacked)
	case "iTXt":
		if len(body) < 2 {
			return text, false, errors.New("too short")
		}
		packed := body[0] == 1
		_, body, _ = bytes.Cut(body[2:], []byte{0}) // the language
		_, body, _ = bytes.Cut(body, []byte{0})     // the translated key
		if packed {
			if body, err = inflate(body, limit); err != nil {
				return text, false, err
			}
		}
		text.Value = strings.ToValidUTF8(string(body), "\ufffd")
	}
	if len(text.Value) > limit {
		return text, false, errTooMuchText
	}
	return text, true, nil
}

var errTooMuchText = fmt.Errorf("the texts of the file are longer than %d bytes", maxTextBytes)

// inflate unpacks at most limit bytes.
func inflate(packed []byte, limit int) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, int64(max(0, limit))+1))
	if err == nil && len(raw) > limit {
		err = errTooMuchText
	}
	return raw, err
}

func fromLatin1(raw []byte) string {
	runes := make([]rune, len(raw))
	for i, b := range raw {
		runes[i] = rune(b)
	}
	return string(runes)
}
