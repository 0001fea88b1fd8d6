package patch_test

import (
	"testing"

	"limner/xla/plugin"
)

// pluginPath is the XLA:CPU plugin that the tests run on, installed if it is not there.
func pluginPath(t testing.TB) string {
	t.Helper()
	path, err := plugin.Find(t.Context(), "cpu", plugin.InstallOptions{})
	check(t, err)
	return path
}
