package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckPrivate fails if a user other than this one and root can change what lies at path, or put something else there.
// As with ssh's keys, the file or folder and each folder above it, up to the user's home folder, must belong to one of
// the two and be writable by nobody else. A folder above it in which everybody may create files but move and remove
// only their own, such as /tmp, is allowed.
func CheckPrivate(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return err
	}
	home, err := os.UserHomeDir()
	if err == nil {
		home, err = filepath.EvalSymlinks(home)
	}
	if err != nil {
		home = "" // then all folders are checked
	}
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if err := checkOwned(at, info, at != real); err != nil {
			return err
		}
		if at == home || at == filepath.Dir(at) {
			return nil
		}
	}
}

// checkOwned checks the owner and the permissions of a file or folder. above says that it is a folder above the path
// that CheckPrivate checks.
func checkOwned(path string, info fs.FileInfo, above bool) error {
	owner, known := ownerOf(info)
	if !known { // this system has no such permissions
		return nil
	}
	if owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, who could change it (this is user %d)", path, owner, os.Geteuid())
	}
	shared := info.Mode().Perm()&0o022 != 0
	if shared && !(above && info.IsDir() && info.Mode()&fs.ModeSticky != 0) {
		return fmt.Errorf("%s can be written by other users (its mode is %04o): chmod go-w %s",
			path, info.Mode().Perm(), path)
	}
	return nil
}

// SameFile fails unless the file that is open is what now lies at path.
func SameFile(f *os.File, path string) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(path)
	if err == nil && !os.SameFile(open, there) {
		err = errors.New("another file was put in its place meanwhile: run again")
	}
	return err
}
