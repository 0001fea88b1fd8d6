package parquetfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// Limits of a page, in bytes: what libraries write is far below.
const (
	maxPage       = 1 << 30
	maxHeader     = 64 << 20 // it has the smallest and the largest value, which may be images
	freeExpansion = 32 << 20 // pages up to this size may be compressed at any ratio
	maxRatio      = 200      // of larger ones: images are compressed already, and captions are shorter
)

// CheckPages fails for a column of a row group whose pages claim more bytes or values than it has, or become larger
// than they claim when they are decompressed: parquet-go takes memory for what pages claim, and for what becomes of
// them. The levels are the column's largest.
func CheckPages(r io.ReaderAt, meta *format.ColumnMetaData, repetition, definition int) error {
	if meta.DictionaryPageOffset > meta.DataPageOffset {
		return fmt.Errorf("a dictionary at byte %d behind the values at %d: damaged", meta.DictionaryPageOffset,
			meta.DataPageOffset)
	}
	at, values := ChunkStart(meta), int64(0)
	for end := at + meta.TotalCompressedSize; at < end && values < meta.NumValues; {
		header, size, err := readHeader(r, at, end)
		if err != nil {
			return fmt.Errorf("page at byte %d: %w", at, err)
		}
		at += size
		if values += valuesOf(header); values > meta.NumValues {
			return fmt.Errorf("page at byte %d: %d values in a column of %d: damaged", at, values, meta.NumValues)
		}
		if int64(header.CompressedPageSize) > end-at || header.CompressedPageSize < 0 {
			return fmt.Errorf("page of %d bytes at byte %d, the column ends at %d: damaged",
				header.CompressedPageSize, at, end)
		}
		err = checkPage(r, at, header, meta.Codec)
		if err == nil && hasIndices(header) {
			err = checkIndices(r, at, header, meta.Codec, repetition, definition)
		}
		if err != nil {
			return fmt.Errorf("page at byte %d: %w", at, err)
		}
		at += int64(header.CompressedPageSize)
	}
	return nil
}

// readHeader reads the header of a page, and how many bytes it takes.
func readHeader(r io.ReaderAt, at, end int64) (*format.PageHeader, int64, error) {
	var protocol thrift.CompactProtocol
	for window := int64(4 << 10); ; window *= 16 {
		raw := make([]byte, min(window, maxHeader, end-at))
		if _, err := r.ReadAt(raw, at); err != nil {
			return nil, 0, err
		}
		header := new(format.PageHeader)
		reader := protocol.NewReaderFromBytes(raw)
		err := thrift.NewDecoder(reader).Decode(header)
		if rest, ok := reader.Reader().(*bytes.Reader); err == nil && ok {
			return header, int64(len(raw) - rest.Len()), nil
		}
		if int64(len(raw)) < window {
			return nil, 0, errors.Join(errors.New("no header of a page: damaged"), err)
		}
	}
}

// valuesOf is how many values of the column a page has: dictionaries have none.
func valuesOf(header *format.PageHeader) int64 {
	switch {
	case header.DataPageHeader.Valid:
		return max(int64(header.DataPageHeader.V.NumValues), 0)
	case header.DataPageHeaderV2.Valid:
		return max(int64(header.DataPageHeaderV2.V.NumValues), 0)
	}
	return 0
}

// checkPage decompresses a page where its size would else be known too late.
func checkPage(r io.ReaderAt, at int64, header *format.PageHeader, codec format.CompressionCodec) error {
	size, packed := int64(header.UncompressedPageSize), int64(header.CompressedPageSize)
	if codec == format.Uncompressed {
		size = packed
	}
	if size < 0 || size > maxPage || size > freeExpansion && size/maxRatio > packed {
		return fmt.Errorf("%d bytes that become %d: no dataset of images has such pages", packed, size)
	}
	if dictionary := header.DictionaryPageHeader; dictionary.Valid && int64(dictionary.V.NumValues) > size {
		return fmt.Errorf("a dictionary of %d values in %d bytes: damaged", dictionary.V.NumValues, size)
	}
	if v2 := header.DataPageHeaderV2; v2.Valid { // its levels are not compressed
		levels := int64(v2.V.RepetitionLevelsByteLength) + int64(v2.V.DefinitionLevelsByteLength)
		if levels < 0 || levels > min(size, packed) {
			return fmt.Errorf("levels of %d bytes in a page of %d: damaged", levels, packed)
		}
		at, size, packed = at+levels, size-levels, packed-levels
		if v2.V.IsCompressed.Valid && !v2.V.IsCompressed.V {
			return nil
		}
	}
	page := io.NewSectionReader(r, at, packed)
	switch codec {
	case format.Snappy:
		start := make([]byte, min(packed, 8))
		if _, err := page.ReadAt(start, 0); err != nil {
			return err
		}
		return same(size)(snappy.DecodedLen(start))
	case format.Lz4Raw:
		raw := make([]byte, packed)
		if _, err := page.ReadAt(raw, 0); err != nil {
			return err
		}
		return same(size)(lz4.UncompressBlock(raw, make([]byte, size)))
	case format.Gzip:
		z, err := gzip.NewReader(page)
		if err != nil {
			return err
		}
		return counted(z, size)
	case format.Brotli:
		return counted(brotli.NewReader(page), size)
	case format.Zstd:
		z, err := zstd.NewReader(page, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		return counted(z, size)
	}
	return nil
}

// same fails for a size that is not the one that a page claims.
func same(claimed int64) func(n int, err error) error {
	return func(n int, err error) error {
		if err == nil && int64(n) != claimed {
			err = fmt.Errorf("it becomes %d bytes, and claims %d: damaged", n, claimed)
		}
		return err
	}
}

// counted decompresses a page to see how large it is, at most a byte more than it claims.
func counted(r io.Reader, claimed int64) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, claimed+1))
	return same(claimed)(int(n), err)
}

// hasIndices says whether a page's values are indices into a dictionary.
func hasIndices(header *format.PageHeader) bool {
	encoding := format.Plain
	switch {
	case header.DataPageHeader.Valid:
		encoding = header.DataPageHeader.V.Encoding
	case header.DataPageHeaderV2.Valid:
		encoding = header.DataPageHeaderV2.V.Encoding
	}
	const older = format.Encoding(2) // what files of the format's first version call it
	return encoding == older || encoding == format.RLEDictionary
}

// checkIndices fails for a page of indices of which a few bytes say that a value repeats more often than the page has
// values. The page's sizes were checked.
func checkIndices(r io.ReaderAt, at int64, header *format.PageHeader, codec format.CompressionCodec,
	repetition, definition int) error {
	packed, size, values := int64(header.CompressedPageSize), int64(header.UncompressedPageSize), valuesOf(header)
	var levels int64
	if v2 := header.DataPageHeaderV2; v2.Valid {
		levels = int64(v2.V.RepetitionLevelsByteLength) + int64(v2.V.DefinitionLevelsByteLength)
		if v2.V.IsCompressed.Valid && !v2.V.IsCompressed.V {
			codec = format.Uncompressed
		}
		repetition, definition = 0, 0 // its levels say their size in the header
	}
	raw, err := decompress(io.NewSectionReader(r, at+levels, packed-levels), packed-levels, size-levels, codec)
	if err != nil {
		return err
	}
	for _, most := range []int{repetition, definition} {
		if most == 0 {
			continue
		}
		if len(raw) < 4 {
			return errors.New("no levels: damaged")
		}
		n := int64(binary.LittleEndian.Uint32(raw))
		if n > int64(len(raw)-4) {
			return fmt.Errorf("levels of %d bytes in a page of %d: damaged", n, len(raw))
		}
		if err := checkRuns(raw[4:4+n], bits.Len(uint(most)), values); err != nil {
			return err
		}
		raw = raw[4+n:]
	}
	if len(raw) == 0 {
		return nil
	}
	return checkRuns(raw[1:], int(raw[0]), values)
}

// decompress reads a page that becomes size bytes.
func decompress(page *io.SectionReader, packed, size int64, codec format.CompressionCodec) ([]byte, error) {
	raw := make([]byte, packed)
	if _, err := page.ReadAt(raw, 0); err != nil && packed > 0 {
		return nil, err
	}
	var r io.Reader
	var err error
	switch codec {
	case format.Uncompressed:
		return raw, nil
	case format.Snappy:
		return snappy.Decode(nil, raw)
	case format.Lz4Raw:
		to := make([]byte, size)
		n, err := lz4.UncompressBlock(raw, to)
		return to[:max(n, 0)], err
	case format.Gzip:
		r, err = gzip.NewReader(bytes.NewReader(raw))
	case format.Brotli:
		r = brotli.NewReader(bytes.NewReader(raw))
	case format.Zstd:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	default:
		return nil, fmt.Errorf("compression %s is not read", codec)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, size))
}

// checkRuns fails for runs of numbers of so many bits that are far more than the values of a page: the last run may be
// filled up.
func checkRuns(raw []byte, width int, values int64) error {
	most, sum := uint64(2*values+1024), uint64(0)
	for len(raw) > 0 {
		head, n := binary.Uvarint(raw)
		if n <= 0 || head>>1 > most {
			return fmt.Errorf("a run of %d numbers in a page of %d values: damaged", head>>1, values)
		}
		count, size := head>>1, uint64((width+7)/8)
		if head&1 != 0 { // groups of eight
			count, size = 8*count, count*uint64(width)
		}
		if sum += count; sum > most {
			return fmt.Errorf("runs of %d numbers in a page of %d values: damaged", sum, values)
		}
		raw = raw[min(uint64(n)+size, uint64(len(raw))):]
	}
	return nil
}
