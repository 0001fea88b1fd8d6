package circles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/parquetfile"
)

// circlesKey is the metadata key of the Set that a file was made from.
const circlesKey = "limner.circles"

// columns are those of a set's files.
var columns = []parquetfile.Column{
	{Name: "image", Kind: parquetfile.Pictures}, {Name: "conditioning_image", Kind: parquetfile.Pictures},
	{Name: "text", Kind: parquetfile.Text},
}

// Row is an example as it is written.
type Row struct {
	Image, ConditioningImage parquetfile.Image
	Text                     string
}

// Write writes the examples 0 to Count-1 into dir as parquet files named train-00000-of-0000N.parquet, in the layout
// that the datasets library writes, and calls progress (which may be nil) as rows are done. Equal sets give the same
// bytes. The folder appears complete or not at all. A folder that already holds the same set is left unchanged; Write
// fails if it holds anything else.
func Write(ctx context.Context, c Set, dir string, progress func(done, total int)) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("circles: %w", err)
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	dir = filepath.Clean(dir)
	done, err := Has(c, dir)
	if err != nil {
		return err
	}
	if done {
		progress(c.Count, c.Count)
		return nil
	}
	return disk.PublishFolder(dir, func(aside string) error {
		for shard := range c.shards() {
			if err := c.writeShard(ctx, filepath.Join(aside, c.shardName(shard)), shard, progress); err != nil {
				return fmt.Errorf("write %s: %w", filepath.Join(dir, c.shardName(shard)), err)
			}
		}
		return nil
	})
}

func (c Set) shardName(shard int) string {
	return fmt.Sprintf("train-%05d-of-%05d.parquet", shard, c.shards())
}

// Has says whether dir holds exactly this set. An empty or missing folder does not; for one that holds anything else
// Has fails with what that is.
func Has(c Set, dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("output folder: %w", err)
	case len(entries) == 0:
		return false, nil
	}
	for i, e := range entries {
		if i >= c.shards() || e.Name() != c.shardName(i) {
			return false, fmt.Errorf("output folder %s holds something else (%s, %d entries in all): "+
				"name another, or empty it", dir, e.Name(), len(entries))
		}
		have, err := lookup(filepath.Join(dir, e.Name()), circlesKey)
		if err != nil {
			return false, fmt.Errorf("output folder %s holds something else: %w", dir, err)
		}
		want, err := c.metadata()
		if err != nil {
			return false, err
		}
		if have != want {
			return false, fmt.Errorf("output folder %s holds another set (%s: %s, want %s): "+
				"name another folder, or empty it", dir, e.Name(), have, want)
		}
	}
	if len(entries) != c.shards() {
		return false, fmt.Errorf("output folder %s holds %d of %d files: empty it", dir, len(entries), c.shards())
	}
	return true, nil
}

// lookup reads an entry of a parquet file's metadata; "" if there is none.
func lookup(path, key string) (value string, err error) {
	f, size, err := disk.OpenSize(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	file, err := parquetfile.Open(f, size)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	value, _ = file.Lookup(key)
	return value, nil
}

func (c Set) metadata() (string, error) {
	raw, err := json.Marshal(c)
	return string(raw), err
}

func (c Set) writeShard(ctx context.Context, path string, shard int, progress func(done, total int)) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	w, err := parquetfile.NewWriter(f, "circles", columns, [2]string{circlesKey, metadata})
	if err != nil {
		return err
	}
	end := min((shard+1)*c.RowsPerShard, c.Count)
	for start := shard * c.RowsPerShard; start < end; start += 256 {
		rows, err := c.rows(ctx, start, min(start+256, end))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := w.Write(row.Image, row.ConditioningImage, row.Text); err != nil {
				return err
			}
		}
		progress(start+len(rows), c.Count)
	}
	return w.Close()
}

// rows draws and encodes the examples [start, end) on all cores.
func (c Set) rows(ctx context.Context, start, end int) ([]Row, error) {
	rows := make([]Row, end-start)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for first := 0; first < len(rows); first += 32 {
		group.Go(func() error {
			encoder := &imaging.PNGEncoder{}
			for i := first; i < min(first+32, len(rows)); i++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				row, err := c.Example(start+i).Row(start+i, encoder)
				if err != nil {
					return err
				}
				rows[i] = row
			}
			return nil
		})
	}
	return rows, group.Wait()
}

// Row draws the circle as row i of a set.
func (c Circle) Row(i int, encoder *imaging.PNGEncoder) (Row, error) {
	image, err := encoder.Encode(c.Image())
	if err != nil {
		return Row{}, err
	}
	condition, err := encoder.Encode(c.Condition())
	if err != nil {
		return Row{}, err
	}
	path := fmt.Sprintf("%06d.png", i)
	return Row{
		Image:             parquetfile.Image{Bytes: image, Path: path},
		ConditioningImage: parquetfile.Image{Bytes: condition, Path: path},
		Text:              c.Caption(),
	}, nil
}
