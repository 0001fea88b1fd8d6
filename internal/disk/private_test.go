package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckPrivate(t *testing.T) {
	const mine, other = "", " belongs to user 12345"
	for name, c := range map[string]struct {
		change func(folder, file string) error
		want   string
	}{
		"own": {func(string, string) error { return nil }, mine},
		"read by others": {
			func(folder, file string) error { return chmods(0o755, folder, 0o644, file) }, mine,
		},
		"a file that a group can write": {
			func(_, file string) error { return os.Chmod(file, 0o620) },
			"can be written by other users (its mode is 0620): chmod go-w",
		},
		"a file that all can write": {
			func(_, file string) error { return os.Chmod(file, 0o602) }, "(its mode is 0602)",
		},
		"a folder that all can write": {
			func(folder, _ string) error { return os.Chmod(folder, 0o777) }, "(its mode is 0777)",
		},
		"a folder like /tmp":    {func(folder, _ string) error { return os.Chmod(folder, 0o777|os.ModeSticky) }, mine},
		"another user's file":   {func(_, file string) error { return os.Chown(file, 12345, -1) }, other},
		"another user's folder": {func(folder, _ string) error { return os.Chown(folder, 12345, -1) }, other},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "folder")
			file := filepath.Join(folder, "file")
			link := filepath.Join(t.TempDir(), "link")
			for _, err := range []error{
				os.Mkdir(folder, 0o700), os.WriteFile(file, nil, 0o600), os.Symlink(file, link),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if c.want == other && os.Geteuid() != 0 {
				t.Skip("only root gives files away")
			}
			if err := c.change(folder, file); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{file, link} {
				err := CheckPrivate(path)
				if c.want == mine && err != nil ||
					c.want != mine && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("%s: got %v, want %q", path, err, c.want)
				}
			}
		})
	}
}

func chmods(folderMode os.FileMode, folder string, fileMode os.FileMode, file string) error {
	if err := os.Chmod(folder, folderMode); err != nil {
		return err
	}
	return os.Chmod(file, fileMode)
}
