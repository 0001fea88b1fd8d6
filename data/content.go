package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"limner/internal/disk"
	"limner/internal/parquetfile"
)

// A dataset of at most wholeContent bytes is read completely when its content is compared. Of a larger one sampleBytes
// are read at the start of every sampleEvery bytes, and at the end: two blocks of an ordinary image file, a few hundred
// megabytes of a hundred gigabytes of parquet files.
const (
	wholeContent = 1 << 30
	sampleEvery  = 1 << 20
	sampleBytes  = 4 << 10
)

// extent is a run of bytes of a file that rows are read from.
type extent struct {
	path         string
	offset, size int64
}

// Content identifies what the rows hold: a hash over the bytes of the image files, and of the columns that are read
// from parquet files. Unlike Fingerprint it changes if images are replaced by others of the same size.
type Content struct {
	Sum string
	// Stamps is a hash over the times and identities of the files if Sum covers only samples of them: it changes with
	// edits that Sum may have missed, and with copies. "" if Sum covers all bytes.
	Stamps string
}

// Content hashes what the rows hold, of a large dataset in samples.
func (d *Dataset) Content() (Content, error) {
	var all []extent
	for _, t := range d.allTables() {
		all = append(all, t.extents()...)
	}
	var total int64
	for _, e := range all {
		total += e.size
	}
	return contentOf(all, total <= wholeContent, d.options.Workers)
}

// contentOf hashes extents in their order, several at a time.
func contentOf(all []extent, whole bool, workers int) (Content, error) {
	sums, stamps := make([][]byte, len(all)), make([]string, len(all))
	var group errgroup.Group
	group.SetLimit(workers)
	for i, e := range all {
		group.Go(func() error {
			h := sha256.New()
			stamps[i] = e.hash(h, whole)
			sums[i] = h.Sum(nil)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Content{}, err
	}
	sum, stamp := sha256.New(), sha256.New()
	for i := range all {
		sum.Write(sums[i])
		fmt.Fprintln(stamp, stamps[i])
	}
	c := Content{Sum: hex.EncodeToString(sum.Sum(nil)[:16])}
	if !whole {
		c.Stamps = hex.EncodeToString(stamp.Sum(nil)[:16])
	}
	return c, nil
}

// hash hashes an extent and returns its file's stamp. What cannot be read is a bad row, which reading will report.
func (e extent) hash(h hash.Hash, whole bool) (stamp string) {
	f, err := disk.Open(e.path)
	if err != nil {
		io.WriteString(h, "cannot be opened")
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		stamp = stampOf(info)
	}
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(e.size)))
	if whole {
		_, err = io.Copy(h, io.NewSectionReader(f, e.offset, e.size))
	} else {
		err = e.sample(h, f)
	}
	if err != nil {
		io.WriteString(h, "cannot be read")
	}
	return stamp
}

// sample hashes some bytes of an extent.
func (e extent) sample(h hash.Hash, f *os.File) error {
	var places []int64
	for at := int64(0); at < e.size; at += sampleEvery {
		places = append(places, at)
	}
	places = append(places, max(0, e.size-sampleBytes)) // the checksum of all pixels of a PNG file is there
	block := make([]byte, sampleBytes)
	for _, at := range slices.Compact(places) {
		n := min(sampleBytes, e.size-at)
		if _, err := f.ReadAt(block[:n], e.offset+at); err != nil {
			return err
		}
		h.Write(block[:n])
	}
	return nil
}

// extents are the columns that are read from each row group, and the files that cells name.
func (t *parquetTable) extents() []extent {
	var all []extent
	for _, group := range t.file.Metadata().RowGroups {
		for _, column := range t.columns.needed() {
			meta := &group.Columns[column].MetaData
			all = append(all, extent{
				path: t.shard.path, offset: parquetfile.ChunkStart(meta), size: meta.TotalCompressedSize,
			})
		}
	}
	return append(all, wholeFiles(t.beside)...)
}

// wholeFiles are the extents of files, whose sizes are those that they have now.
func wholeFiles(paths []string) (all []extent) {
	for _, path := range paths {
		e := extent{path: path}
		if info, err := os.Stat(path); err == nil { // else reading reports it
			e.size = info.Size()
		}
		all = append(all, e)
	}
	return all
}
