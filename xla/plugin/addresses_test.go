package plugin

import (
	"strings"
	"testing"
)

func TestAddressLimit(t *testing.T) {
	set := func(limit, left int64) {
		addressSpace = func() (int64, int64, bool) { return limit, left, true }
	}
	defer func() { addressSpace = limitOfAddresses }()

	set(1<<30, 1<<29)
	err := checkAddressLimit()
	if err == nil || !strings.Contains(err.Error(), "only 1.1 GB of address space (ulimit -v), XLA wants at least ") {
		t.Errorf("a plugin: got %v", err)
	}
	set(1<<40, 1<<20)
	if err := checkAddressLimit(); err != nil {
		t.Errorf("a high limit: %v", err)
	}
	err = CheckAddresses("the compiler", CompilingAddresses)
	if err == nil || !strings.Contains(err.Error(), "the compiler wants 0.5 GB of address space, 0.0 GB are left") {
		t.Errorf("little left: got %v", err)
	}
	if err := CheckAddresses("little", 1<<20); err != nil {
		t.Errorf("enough left: %v", err)
	}
}
