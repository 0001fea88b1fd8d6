package plugin

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"limner/internal/disk"
)

// installWheel returns the path of w's plugin in the cache, installing it if it is not there.
func installWheel(ctx context.Context, w Wheel, opts InstallOptions) (string, error) {
	s := w.slot(opts.CacheDir)
	r := installReporter{w: opts.Progress}
	path, err := s.fill(ctx, r, func(stage string) (installMark, error) {
		wheel, err := w.obtain(ctx, s.plugins, stage, r)
		if err != nil {
			return installMark{}, err
		}
		m, err := w.unpack(ctx, wheel, stage)
		if err != nil {
			return m, hintDiskFull(fmt.Errorf("unpack %s: %w", w.file(), err), s.plugins)
		}
		if filepath.Dir(wheel) == stage {
			if err := os.Remove(wheel); err != nil {
				return m, err
			}
		}
		r.say("installed the %s plugin in %s", w.Name, s.dir())
		return m, nil
	})
	if err != nil {
		return "", fmt.Errorf("install the %s plugin: %w", w.Name, err)
	}
	return path, nil
}

// obtain returns the path of the checked wheel: the one put into plugins by hand, or a
// download into stage.
func (w Wheel) obtain(ctx context.Context, plugins, stage string, r installReporter) (string, error) {
	if err := checkFree(plugins, w.Size+w.Unpacked); err != nil {
		return "", err
	}
	byHand := filepath.Join(plugins, w.file())
	f, err := disk.Open(byHand)
	if err == nil {
		defer f.Close()
		if err := w.check(io.Discard, contextReader{ctx, f}); err != nil {
			return "", fmt.Errorf("check %s: %w: remove it to download it, or replace it", byHand, err)
		}
		r.say("unpacking %s", byHand)
		return byHand, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	wheel := filepath.Join(stage, w.file())
	if err := w.download(ctx, wheel, r); err != nil {
		if ctx.Err() != nil || errors.Is(err, syscall.ENOSPC) {
			return "", hintDiskFull(fmt.Errorf("download %s: %w", w.URL, err), plugins)
		}
		return "", fmt.Errorf("download %s: %w: put that file (sha256 %s) into %s, "+
			"or set LIMNER_PLUGIN=/path/%s to an unpacked plugin",
			w.URL, err, w.SHA256, plugins, w.plugin())
	}
	return wheel, nil
}

// check copies a wheel from src to dst and fails unless its size and hash are the pinned ones.
func (w Wheel) check(dst io.Writer, src io.Reader) error {
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(dst, hash), io.LimitReader(src, w.Size+1))
	if err != nil {
		return err
	}
	if n > w.Size {
		return fmt.Errorf("the file has more than the pinned %d bytes", w.Size)
	}
	if n < w.Size {
		return fmt.Errorf("the file ends after %d of the pinned %d bytes", n, w.Size)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != w.SHA256 {
		return fmt.Errorf("the file has sha256 %s, pinned is %s", got, w.SHA256)
	}
	return nil
}

// unpack writes the plugin from the wheel into the folder stage. No other member of the
// archive is read, and the name of the file is ours.
func (w Wheel) unpack(ctx context.Context, wheel, stage string) (installMark, error) {
	m := installMark{Package: w.Package, Version: w.Version, Source: w.SHA256, File: w.plugin()}
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return m, err
	}
	defer archive.Close()
	member, err := archive.Open(w.Member)
	if err != nil {
		return m, err
	}
	defer member.Close()
	hash := sha256.New()
	m.Size, err = writeSynced(filepath.Join(stage, m.File), func(f io.Writer) error {
		_, err := io.Copy(io.MultiWriter(f, hash), contextReader{ctx, member})
		return err
	})
	if err != nil {
		return m, err
	}
	if m.Size != w.Unpacked {
		return m, fmt.Errorf("%s has %d bytes, pinned are %d", w.Member, m.Size, w.Unpacked)
	}
	m.SHA256 = hex.EncodeToString(hash.Sum(nil))
	if m.SHA256 != w.PluginSHA256 {
		return m, fmt.Errorf("%s has sha256 %s, pinned is %s", w.Member, m.SHA256, w.PluginSHA256)
	}
	return m, nil
}

// contextReader fails as soon as ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
