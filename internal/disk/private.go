package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckPrivate fails where a user other than this one and root can change what lies at path, or put something else
// there: as ssh asks of its keys, the file or folder and each folder above it, up to the user's home folder, belong to
// one of the two and can be written by nobody else. A folder above it in which everybody may make files but only move
// and remove their own, such as /tmp, does no harm.
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
		home = "" // then all folders are looked at
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

// checkOwned says what is wrong with a file's or folder's owner or permissions. above says that it is a folder above
// what is asked about.
func checkOwned(path string, info fs.FileInfo, above bool) error {
	owner, known := ownerOf(info)
	if !known { // this system has other permissions
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
