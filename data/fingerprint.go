package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Fingerprint tells a dataset from others: a hash over the size and the footer of each file, in order. A footer says where
// every chunk of every column lies and how long it is; the rows themselves are not read. Where the files lie and what
// they are called makes no difference.
func (d *Dataset) Fingerprint() (string, error) {
	h := sha256.New()
	for _, s := range d.shards {
		var tail [8]byte
		if _, err := s.f.ReadAt(tail[:], s.size-int64(len(tail))); err != nil {
			return "", fmt.Errorf("fingerprint of %s: %w", s.path, err)
		}
		footer := make([]byte, int64(binary.LittleEndian.Uint32(tail[:4])))
		if _, err := s.f.ReadAt(footer, s.size-int64(len(tail)+len(footer))); err != nil {
			return "", fmt.Errorf("fingerprint of %s: %w", s.path, err)
		}
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(s.size))
		h.Write(size[:])
		h.Write(footer)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
