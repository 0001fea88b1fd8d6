package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// SetEnv sets what a plugin reads from the process's environment, before it is loaded; variables that the user has set
// are not changed.
//
//   - Plugins log every client that they create to stderr: only warnings are let through.
//   - libtpu on a machine without a TPU asks Google Cloud's metadata server what it runs
//     on, for more than a minute; told not to, it fails at once and still compiles.
func SetEnv(plugin string) error {
	env := [][2]string{{"TF_CPP_MIN_LOG_LEVEL", "1"}}
	if strings.Contains(strings.ToLower(filepath.Base(plugin)), "tpu") && !HasTPU("/dev") {
		env = append(env,
			[2]string{"TPU_SKIP_MDS_QUERY", "1"},
			[2]string{"TPU_ACCELERATOR_TYPE", "v4-8"},
			[2]string{"TPU_WORKER_HOSTNAMES", "localhost"},
			[2]string{"ALLOW_MULTIPLE_LIBTPU_LOAD", "1"})
	}
	for _, e := range env {
		if _, set := os.LookupEnv(e[0]); set {
			continue
		}
		if err := os.Setenv(e[0], e[1]); err != nil {
			return fmt.Errorf("set %s: %w", e[0], err)
		}
	}
	return nil
}

// HasTPU says whether dev, the folder of device files, has the files that TPU machines have:
// accel0 … up to v4, vfio/0 … from v5e on.
func HasTPU(dev string) bool {
	for _, pattern := range []string{"accel[0-9]*", "vfio/[0-9]*"} {
		if found, err := filepath.Glob(filepath.Join(dev, pattern)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}
