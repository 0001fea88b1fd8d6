package plugin

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gomlx/go-xla/pkg/pjrt"
)

// TestCPUPlugin installs the pinned CPU plugin, on first use from the network, and loads it.
func TestCPUPlugin(t *testing.T) {
	path, err := Find(t.Context(), "cpu", InstallOptions{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(path) {
		t.Errorf("%s is no absolute path", path)
	}
	plugin, err := pjrt.GetPlugin(path)
	if err != nil {
		t.Fatal(err)
	}
	if major, _ := plugin.Version(); major != 0 {
		t.Errorf("PJRT API version %d, want 0", major)
	}
}
