package parquetfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"

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
	maxHeader     = 1 << 20
	freeExpansion = 32 << 20 // pages up to this size may be compressed at any ratio
	maxRatio      = 200      // of larger ones: images are compressed already, and captions are shorter
)

// CheckPages fails for a column of a row group whose pages claim more bytes or values than it has, or become larger
// than they claim when they are decompressed: parquet-go takes memory for what pages claim, and for what becomes of
// them.
func CheckPages(r io.ReaderAt, meta *format.ColumnMetaData) error {
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
		if err := checkPage(r, at, header, meta.Codec); err != nil {
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
		if int64(len(raw)) < window || window >= maxHeader {
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
