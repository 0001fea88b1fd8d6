package patch_test

import (
	"os"
	"testing"

	"github.com/gomlx/gomlx/backends"
)

type deviceNum = backends.DeviceNum

// pluginPath is the XLA:CPU plugin that the tests run on.
func pluginPath(t testing.TB) string {
	t.Helper()
	path := os.Getenv("LIMNER_PLUGIN")
	if path == "" {
		t.Skip("LIMNER_PLUGIN names no plugin")
	}
	return path
}
