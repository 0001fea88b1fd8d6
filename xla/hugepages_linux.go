package xla

import (
	"bytes"
	"os"
	"strings"
	"syscall"
)

// UseHugePages is for the start of a program: it starts the process again with the C library's allocator on huge pages,
// where the kernel has them. XLA takes its temporaries anew in every step; on small pages a third of a step's time goes
// into faults. The allocator reads the setting only when a process starts. Where anything fails, the process goes on as
// it is.
func UseHugePages() {
	const name, setting = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
	tunables := os.Getenv(name)
	if strings.Contains(tunables, setting) {
		return // started again already, or set by the user
	}
	modes, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || bytes.Contains(modes, []byte("[never]")) {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	if tunables != "" {
		tunables += ":"
	}
	if err := os.Setenv(name, tunables+setting+"=1"); err != nil {
		return
	}
	_ = syscall.Exec(program, os.Args, os.Environ())
}
