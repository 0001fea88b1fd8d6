package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gomlx/go-xla/pkg/installer"
	"github.com/gomlx/go-xla/pkg/pjrt"
)

// installFromGoXLA gets the CPU plugin from go-xla's own releases, for platforms that PyPI has none for. go-xla pins no
// hash for them and its download ignores ctx, which is checked before and after.
func installFromGoXLA(ctx context.Context, platform string, opts InstallOptions) (string, error) {
	s := pluginSlot{plugins: filepath.Join(opts.CacheDir, "plugins"), name: "go-xla-cpu-" + pjrt.DefaultCPUVersion}
	r := installReporter{w: opts.Progress}
	path, err := s.fill(ctx, r, func(stage string) (installMark, error) {
		if err := ctx.Err(); err != nil {
			return installMark{}, err
		}
		r.say("downloading go-xla's CPU plugin %s for %s", pjrt.DefaultCPUVersion, platform)
		if err := installer.CPUAutoInstall(stage, false, installer.Quiet); err != nil {
			return installMark{}, fmt.Errorf("%w: set LIMNER_PLUGIN=/path/x.so to a PJRT CPU plugin of your own", err)
		}
		if err := ctx.Err(); err != nil {
			return installMark{}, err
		}
		return markOf(stage)
	})
	if err != nil {
		return "", fmt.Errorf("install the cpu plugin for %s: %w", platform, err)
	}
	return path, nil
}

// markOf finds the plugin that go-xla put into stage and describes it.
func markOf(stage string) (installMark, error) {
	m := installMark{Package: "go-xla-cpu", Version: pjrt.DefaultCPUVersion}
	found, err := filepath.Glob(filepath.Join(stage, "pjrt_c_api_cpu_*_plugin.*"))
	if err != nil {
		return m, err
	}
	if len(found) == 0 {
		return m, errors.New("go-xla's installer left no pjrt_c_api_cpu_*_plugin file")
	}
	f, err := os.OpenFile(found[0], os.O_RDWR, 0) // for Sync
	if err != nil {
		return m, err
	}
	defer f.Close()
	hash := sha256.New()
	if m.Size, err = io.Copy(hash, f); err != nil {
		return m, err
	}
	m.File, m.SHA256 = filepath.Base(found[0]), hex.EncodeToString(hash.Sum(nil))
	return m, f.Sync()
}
