//go:build unix

package disk

import "golang.org/x/sys/unix"

// noWait opens a pipe without waiting; for a regular file it changes nothing. A terminal does not become this process's
// controlling terminal.
const noWait = unix.O_NONBLOCK | unix.O_NOCTTY
