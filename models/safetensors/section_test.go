package safetensors

import (
	"strings"
	"testing"
)

func TestSection(t *testing.T) {
	text := "..abcdef...ghij"
	whole := section{strings.NewReader(text), []piece{{2, 6}, {11, 4}, {15, 0}}}
	if whole.size() != 10 {
		t.Errorf("size %d, want 10", whole.size())
	}
	for begin := range 10 {
		for end := begin; end <= 10; end++ {
			got := make([]byte, end-begin)
			if err := whole.read(got, int64(begin)); err != nil || string(got) != "abcdefghij"[begin:end] {
				t.Errorf("from %d to %d: got %q, %v", begin, end, got, err)
			}
		}
	}
	for _, n := range []int64{1, 2, 5, 10} {
		for i := range n {
			part := whole.part(i, n)
			got, want := make([]byte, part.size()), "abcdefghij"[i*10/n:(i+1)*10/n]
			if err := part.read(got, 0); err != nil || string(got) != want {
				t.Errorf("part %d of %d: got %q, %v, want %q", i, n, got, err, want)
			}
		}
	}
}
