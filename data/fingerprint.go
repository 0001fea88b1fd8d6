package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
)

// Fingerprint identifies a dataset: a hash over the size and the footer of each parquet file, and over the names and
// sizes of the files and the captions of each folder, in order. A footer says where every chunk of every column lies
// and how long it is; the rows themselves are not read. It does not depend on where the files lie, nor on the names of
// parquet files.
func (d *Dataset) Fingerprint() (string, error) {
	h := sha256.New()
	for _, t := range d.allTables() {
		if err := t.fingerprint(h); err != nil {
			return "", fmt.Errorf("fingerprint of %s: %w", t.path(), err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// allTables are those of the dataset, and of the class behind it.
func (d *Dataset) allTables() []table {
	if d.class == nil {
		return d.tables
	}
	return slices.Concat(d.tables, d.class.tables)
}

func (t *parquetTable) fingerprint(h hash.Hash) error {
	var tail [8]byte
	if _, err := t.f.ReadAt(tail[:], t.size-int64(len(tail))); err != nil {
		return err
	}
	footer := make([]byte, int64(binary.LittleEndian.Uint32(tail[:4])))
	if _, err := t.f.ReadAt(footer, t.size-int64(len(tail)+len(footer))); err != nil {
		return err
	}
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(t.size))
	h.Write(size[:])
	h.Write(footer)
	for _, e := range wholeFiles(t.beside) {
		fmt.Fprintf(h, "%q %d\n", relative(t.root.dir, e.path), e.size)
	}
	return nil
}
