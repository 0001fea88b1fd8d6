package parquetfile_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"limner/internal/parquetfile"
)

type image struct {
	Bytes []byte  `parquet:"bytes,optional"`
	Path  *string `parquet:"path,optional"`
}

type row struct {
	Picture  *image   `parquet:"picture,optional"`
	Caption  *string  `parquet:"caption,optional"`
	Captions []string `parquet:"captions,list,optional"`
	After    *image   `parquet:"after,optional"`
}

var columns = []parquetfile.Column{
	{Name: "picture", Kind: parquetfile.Pictures}, {Name: "caption", Kind: parquetfile.Text},
	{Name: "captions", Kind: parquetfile.Texts}, {Name: "after", Kind: parquetfile.Pictures},
}

// write writes rows, each with a picture of the given size if there is one.
func write(t *testing.T, rows ...[]any) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := parquetfile.NewWriter(&b, "test", columns, [2]string{"key", "value"})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if err := w.Write(row...); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriterReadsBack(t *testing.T) {
	picture := parquetfile.Image{Bytes: []byte("pixels"), Path: "1.png"}
	raw := write(t,
		[]any{picture, "a", []string{"a", "b"}, picture},
		[]any{nil, nil, nil, nil},
		[]any{picture, "", []string{}, nil},
		[]any{nil, "c", []string{"é"}, picture},
	)
	got, err := parquet.Read[row](bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	path, a, empty, c := "1.png", "a", "", "c"
	same := &image{Bytes: []byte("pixels"), Path: &path}
	want := []row{
		{same, &a, []string{"a", "b"}, same}, {}, {Picture: same, Caption: &empty}, {nil, &c, []string{"é"}, same},
	}
	got[2].Captions = nil // an empty list
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	file, err := parquetfile.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range file.Root().Columns() {
		names = append(names, c.Name())
	}
	if diff := cmp.Diff([]string{"picture", "caption", "captions", "after"}, names); diff != "" {
		t.Errorf("columns: %s", diff)
	}
	for key, want := range map[string]string{
		"key": "value",
		"huggingface": `{"info": {"features": {"picture": {"_type": "Image"}, ` +
			`"caption": {"dtype": "string", "_type": "Value"}, ` +
			`"captions": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}, ` +
			`"after": {"_type": "Image"}}}}`,
	} {
		if got, _ := file.Lookup(key); got != want {
			t.Errorf("%s: got %s\nwant %s", key, got, want)
		}
	}
}

// A group ends at 64 MiB, so that writing takes bounded memory.
func TestWriterBoundsGroups(t *testing.T) {
	large := parquetfile.Image{Bytes: make([]byte, 33<<20), Path: "large.png"}
	var rows [][]any
	for range 3 {
		rows = append(rows, []any{large, "a", nil, nil})
	}
	raw := write(t, rows...)
	file, err := parquetfile.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var counts []int64
	for _, g := range file.RowGroups() {
		counts = append(counts, g.NumRows())
	}
	if diff := cmp.Diff([]int64{2, 1}, counts); diff != "" {
		t.Errorf("rows of groups: %s", diff)
	}
}

// A file is hardly larger than its images: no statistics repeat them.
func TestWriterSize(t *testing.T) {
	var rows [][]any
	for i := range 20 {
		rows = append(rows, []any{
			parquetfile.Image{Bytes: bytes.Repeat([]byte{byte(i)}, 10_000), Path: "a.png"}, "a", nil, nil,
		})
	}
	if size := len(write(t, rows...)); size > 205_000 {
		t.Errorf("%d bytes for images of 200000", size)
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, columns := range map[string][]parquetfile.Column{
		"twice":   {{Name: "a", Kind: parquetfile.Text}, {Name: "a", Kind: parquetfile.Pictures}},
		"no name": {{Kind: parquetfile.Text}},
	} {
		if _, err := parquetfile.NewWriter(new(bytes.Buffer), "test", columns); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, c := range []struct {
		row  []any
		want string
	}{
		{[]any{nil}, "a row of 1 values for 4 columns"},
		{[]any{"text", nil, nil, nil}, "column picture cannot hold a string"},
		{[]any{nil, []string{"a"}, nil, nil}, "column caption cannot hold a []string"},
		{[]any{nil, nil, 3, nil}, "column captions cannot hold a int"},
	} {
		w, err := parquetfile.NewWriter(new(bytes.Buffer), "test", columns)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(c.row...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %s", c.row, err, c.want)
		}
	}
}
