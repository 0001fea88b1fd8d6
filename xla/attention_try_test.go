package xla

import (
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// TestTryAttention finds a wrong kernel out. The CPU has none of its own: attention in other roundings stands in.
func TestTryAttention(t *testing.T) {
	b, err := Open(t.Context(), Options{Devices: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	rounded := func(q, k, v *Node, heads int) *Node {
		return plainAttention(q, k, ConvertDType(MulScalar(v, 1), dtypes.BFloat16), heads)
	}
	if err := b.tryAttention(t.Context(), rounded); err != nil {
		t.Errorf("got %v for a right one", err)
	}
	unscaled := func(q, k, v *Node, heads int) *Node { return plainAttention(MulScalar(q, 2), k, v, heads) }
	if err := b.tryAttention(t.Context(), unscaled); err == nil || !strings.Contains(err.Error(), "attention: off by") {
		t.Errorf("got %v for a wrong one", err)
	}
	frozen := func(q, k, v *Node, heads int) *Node { return plainAttention(q, StopGradient(k), v, heads) }
	if err := b.tryAttention(t.Context(), frozen); err == nil ||
		!strings.Contains(err.Error(), "gradient of the keys") {
		t.Errorf("got %v for one with a wrong gradient", err)
	}
}
