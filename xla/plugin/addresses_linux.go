package plugin

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func limitOfAddresses() (limit, left int64, limited bool) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &l); err != nil || l.Cur >= 1<<62 { // none
		return 0, 0, false
	}
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, false
	}
	var pages int64
	if _, err := fmt.Sscan(string(raw), &pages); err != nil {
		return 0, 0, false
	}
	return int64(l.Cur), int64(l.Cur) - pages*int64(os.Getpagesize()), true
}
