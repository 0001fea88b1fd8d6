package patch_test

import (
	"testing"

	engine "limner/xla"
)

// pluginPath is the XLA:CPU plugin that the tests run on, installed if it is not there.
func pluginPath(t testing.TB) string {
	t.Helper()
	path, err := engine.Plugin(t.Context(), "cpu", engine.InstallOptions{})
	check(t, err)
	return path
}
