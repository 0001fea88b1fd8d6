package build

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"strconv"

	"limner/data"
	"limner/internal/parquetfile"
)

// shard is a parquet file that is being written.
type shard struct {
	part
	f      *os.File
	buffer *bufio.Writer
	sum    hash.Hash
	rows   *parquetfile.Writer
}

// newShard begins a file of the work folder, whose pictures are of several sizes unless bucketArea is 0.
func newShard(path string, p part, columns []parquetfile.Column, bucketArea int) (*shard, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	s := &shard{part: p, f: f, buffer: bufio.NewWriterSize(f, 1<<20), sum: sha256.New()}
	var metadata [][2]string
	if bucketArea > 0 {
		metadata = append(metadata, [2]string{data.BucketKey, strconv.Itoa(bucketArea)})
	}
	s.rows, err = parquetfile.NewWriter(io.MultiWriter(s.buffer, s.sum), "build", columns, metadata...)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// write appends a row.
func (s *shard) write(values []any) error {
	s.Rows++
	return s.rows.Write(values...)
}

// finish writes the footer and puts the file on the disk.
func (s *shard) finish() error {
	err := s.rows.Close()
	if err == nil {
		err = s.buffer.Flush()
	}
	if err == nil {
		err = s.f.Sync()
	}
	info, statErr := s.f.Stat()
	if err = errors.Join(err, statErr, s.f.Close()); err != nil {
		return err
	}
	s.Bytes, s.SHA256 = info.Size(), hex.EncodeToString(s.sum.Sum(nil))
	return nil
}

// abandon closes and removes a file that is not finished. Finishing it may have closed it already.
func (s *shard) abandon() error {
	err := s.f.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, os.Remove(s.f.Name()))
}
