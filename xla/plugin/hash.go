package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"limner/internal/disk"
)

// damagedError is the error for an installed plugin whose hash differs from what it must be.
type damagedError struct{ path, got, want string }

func (e damagedError) Error() string {
	return fmt.Sprintf("the plugin %s is damaged or was replaced: sha256 %s, want %s: "+
		"remove the folder %s and the next run installs it again",
		e.path, e.got, e.want, filepath.Dir(e.path))
}

// installedHash is the SHA-256 that the plugin at path must have: the pinned one, else the one it had when it was
// installed. It is empty for a file that limner did not install.
func installedHash(path string) string {
	mark, err := markBeside(path)
	if err != nil || mark.File != filepath.Base(path) {
		return ""
	}
	for _, w := range Wheels() {
		if w.Package == mark.Package && w.Version == mark.Version {
			return w.PluginSHA256
		}
	}
	return mark.SHA256
}

// IsPinnedCPU says whether an identity, of Library.Identity, is that of the pinned CPU plugin, whose formats are known.
func IsPinnedCPU(identity string) bool {
	for _, w := range Wheels() {
		if w.Name == "cpu" && identity == w.plugin()+" "+w.PluginSHA256 {
			return true
		}
	}
	return false
}

// stamp is the SHA-256 of a file, with its size and times when that was computed. Plugins have hundreds of megabytes:
// they are read again only when one of these has changed.
type stamp struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // in nanoseconds since 1970
	Changed  int64  `json:"changed"`  // of the inode, likewise
	Inode    uint64 `json:"inode"`
	SHA256   string `json:"sha256"`
}

// maxStamp is more bytes than any stamp has.
const maxStamp = 1 << 16

// stampFile is the stamp beside an installed plugin.
const stampFile = "checked.json"

func stampBeside(path string) string { return filepath.Join(filepath.Dir(path), stampFile) }

func stampOf(path string, info fs.FileInfo) stamp {
	inode, changed := disk.IdentityOf(info)
	return stamp{Path: path, Size: info.Size(), Modified: info.ModTime().UnixNano(), Changed: changed, Inode: inode}
}

// knownHash is the SHA-256 of an open file: the one in the stamp at path noted, if the file's size and times are the
// same and no other user could have written the stamp. Else the file is read and the stamp written; if writing fails,
// the next process reads the file again. With noted "" there is no stamp.
func knownHash(ctx context.Context, f *os.File, noted string) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	now := stampOf(f.Name(), info)
	if known := readStamp(noted); known.SHA256 != "" {
		if now.SHA256 = known.SHA256; now == known {
			return known.SHA256, nil
		}
	}
	if now.SHA256, err = hashOf(ctx, f, info.Size()); err != nil {
		return "", err
	}
	after, err := f.Stat()
	if err != nil {
		return "", err
	}
	if then := stampOf(f.Name(), after); then.Changed != now.Changed || then.Modified != now.Modified ||
		then.Size != now.Size {
		return "", fmt.Errorf("%s changed while it was read: run again when nothing writes to it", f.Name())
	}
	if raw, err := json.Marshal(now); err == nil && noted != "" {
		_ = disk.WriteFile(noted, raw, 0o600)
	}
	return now.SHA256, nil
}

// readStamp returns an empty stamp if there is none that can be trusted.
func readStamp(path string) (s stamp) {
	if path == "" {
		return stamp{}
	}
	raw, err := disk.ReadFile(path, maxStamp)
	if err != nil || disk.CheckPrivate(path) != nil || json.Unmarshal(raw, &s) != nil {
		return stamp{}
	}
	return s
}

// hashOf reads an open file of the given size from its start and returns its SHA-256 in hexadecimal.
func hashOf(ctx context.Context, f *os.File, size int64) (string, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, contextReader{ctx, io.NewSectionReader(f, 0, size)})
	if err == nil && n != size {
		err = fmt.Errorf("%s ends after %d of %d bytes: it changed while it was read", f.Name(), n, size)
	}
	return hex.EncodeToString(hash.Sum(nil)), err
}

// sum is the SHA-256 of bytes in hexadecimal.
func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}
