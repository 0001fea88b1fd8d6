//go:build !linux && !darwin

package disk

import "io/fs"

func IdentityOf(fs.FileInfo) (inode uint64, changed int64) { return 0, 0 }

func ownerOf(fs.FileInfo) (user int, known bool) { return 0, false }
