package disk

import "syscall"

// changedAt is when the inode was last changed, in nanoseconds since 1970.
func changedAt(stat *syscall.Stat_t) int64 { return stat.Ctim.Nano() }
