package train

import (
	"context"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/internal/parity"
)

func TestFamiliesThatCannotBeTrained(t *testing.T) {
	o := DefaultOptions()
	o.OutputDir, o.Batch, o.MaxTrainSteps = t.TempDir(), 1, 1
	r := Recipe{Model: golden.Path(t, "sdxl-tiny"), Data: []string{t.TempDir()}, Resolution: 64}
	_, err := NewControlNet(context.Background(), parity.Backend(t), o, r)
	if err == nil || !strings.Contains(err.Error(), "is an SDXL model: supported for training are SD 1.x and 2.x") {
		t.Errorf("got %v", err)
	}
}
