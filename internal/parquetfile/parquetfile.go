// Package parquetfile opens parquet files that may be damaged or malicious, and writes files as the datasets library
// does.
package parquetfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// maxGroupRows is twice what pyarrow writes at most; a group of images has thousands of rows.
const maxGroupRows = 1 << 21

// Open reads the footer of a file of the given size, after checking that the footer's size is possible.
func Open(r io.ReaderAt, size int64) (file *parquet.File, err error) {
	var tail [8]byte
	if size < int64(len("PAR1")+len(tail)) {
		return nil, fmt.Errorf("%d bytes: not a parquet file, or cut off", size)
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return nil, err
	}
	if string(tail[4:]) != "PAR1" {
		return nil, errors.New("no PAR1 at the end: not a parquet file, or cut off")
	}
	if footer := int64(binary.LittleEndian.Uint32(tail[:4])); footer > size-12 {
		return nil, fmt.Errorf("footer of %d bytes in a file of %d: damaged", footer, size)
	}
	err = Recovered(func() error {
		var err error
		file, err = parquet.OpenFile(r, size,
			parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(256<<10))
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, checkFooter(file, size)
}

// Recovered runs f and turns a panic into an error. It guards calls of parquet-go, whose decoder uses numbers of the
// file as indices, so that a damaged file makes it panic instead of returning an error.
func Recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged parquet data (%v)", p)
		}
	}()
	return f()
}

// checkFooter rejects counts and positions that are impossible in a file of this size, before memory is allocated for
// them.
func checkFooter(file *parquet.File, size int64) error {
	m := file.Metadata()
	var rows int64
	for g := range m.RowGroups {
		group := &m.RowGroups[g]
		if group.NumRows < 0 || group.NumRows > maxGroupRows {
			return fmt.Errorf("row group %d claims %d rows, more than the limit of %d: damaged",
				g, group.NumRows, maxGroupRows)
		}
		rows += group.NumRows
		for c := range group.Columns {
			meta := &group.Columns[c].MetaData
			start := ChunkStart(meta)
			if start < 0 || meta.TotalCompressedSize < 0 || meta.TotalUncompressedSize < 0 ||
				start > size || meta.TotalCompressedSize > size-start {
				return fmt.Errorf("row group %d, column %s: %d bytes at %d lie outside the file of %d: "+
					"damaged or cut off",
					g, strings.Join(meta.PathInSchema, "."), meta.TotalCompressedSize, start, size)
			}
		}
	}
	if m.NumRows != rows {
		return fmt.Errorf("%d rows in the footer, %d in its row groups: damaged", m.NumRows, rows)
	}
	return nil
}

// ChunkStart is where a column of a row group begins.
func ChunkStart(meta *format.ColumnMetaData) int64 {
	if meta.DictionaryPageOffset > 0 {
		return min(meta.DataPageOffset, meta.DictionaryPageOffset)
	}
	return meta.DataPageOffset
}
