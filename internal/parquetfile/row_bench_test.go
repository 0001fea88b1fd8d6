package parquetfile_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"

	"limner/internal/parquetfile"
)

// BenchmarkRandomRow reads both images and the caption of a random row of a file of 2,000, by its page index.
func BenchmarkRandomRow(b *testing.B) {
	path := filepath.Join(b.TempDir(), "rows.parquet")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w, err := parquetfile.NewWriter(f, "test", []parquetfile.Column{
		{Name: "image", Kind: parquetfile.Pictures}, {Name: "conditioning_image", Kind: parquetfile.Pictures},
		{Name: "text", Kind: parquetfile.Text},
	})
	if err != nil {
		b.Fatal(err)
	}
	const rows = 2000
	rng := rand.New(rand.NewPCG(1, 1))
	pixels := make([]byte, 120_000)
	for i := range pixels {
		pixels[i] = byte(rng.Uint32())
	}
	picture := func(row, size int) parquetfile.Image {
		return parquetfile.Image{Bytes: append([]byte(fmt.Sprintf("%6d", row)), pixels[:size]...)}
	}
	for i := range rows {
		if err := w.Write(picture(i, 40_000+rng.IntN(80_000)), picture(i, 10_000), fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		b.Fatal(err)
	}
	file, err := parquet.OpenFile(f, size)
	if err != nil {
		b.Fatal(err)
	}
	leaves := []int{}
	for _, name := range []string{"image", "conditioning_image"} {
		leaves = append(leaves, file.Root().Column(name).Column("bytes").Index())
	}
	for b.Loop() {
		row := rng.Int64N(rows)
		within, group := row, 0
		for ; within >= file.RowGroups()[group].NumRows(); group++ {
			within -= file.RowGroups()[group].NumRows()
		}
		for _, leaf := range leaves {
			pages := file.RowGroups()[group].ColumnChunks()[leaf].Pages()
			if err := pages.SeekToRow(within); err != nil {
				b.Fatal(err)
			}
			page, err := pages.ReadPage()
			if err != nil {
				b.Fatal(err)
			}
			var value [1]parquet.Value
			if n, err := page.Values().ReadValues(value[:]); n < 1 {
				b.Fatal(err)
			}
			if !bytes.HasPrefix(value[0].ByteArray(), []byte(fmt.Sprintf("%6d", row))) {
				b.Fatalf("row %d: another one came", row)
			}
			parquet.Release(page)
			pages.Close()
		}
	}
}
