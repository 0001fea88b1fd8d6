package step

import (
	"errors"
	"fmt"
	"testing"

	"limner/xla/pjrt"
)

// What compilers say of programs that do not fit, as it was seen or as their source has it.
func TestMemoryErrors(t *testing.T) {
	for text, want := range map[string]string{
		"compile train_controlnet: E1000: CompileTimeHbmOom: XLA:TPU compile permanent error. " +
			"total memory required for HLO temporaries (72.00G) exceeds available HBM (30.75G)": "needs 72.00G " +
			"of 30.75G",
		"RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. " +
			"Used 38.55G of 30.75G hbm. Exceeded hbm capacity by 7.80G.": "needs 38.55G of 30.75G",
		"RESOURCE_EXHAUSTED: Out of memory while trying to allocate 21474836480 bytes.": "needs 21474836480 " +
			"bytes more than there are",
		"RESOURCE_EXHAUSTED: Out of memory while trying to allocate 20.00GiB.\nwhere": "needs 20.00GiB " +
			"more than there are",
		"RESOURCE_EXHAUSTED: something else\nand more": "RESOURCE_EXHAUSTED: something else",
	} {
		if large := AsTooLarge(errors.New(text)); large == nil || large.Error() != want {
			t.Errorf("%q: got %v, want %q", text, large, want)
		}
	}
	byCode := fmt.Errorf("compile train: %w", &pjrt.Error{Code: pjrt.ResourceExhausted, Text: "it does not fit"})
	if large := AsTooLarge(byCode); large == nil || large.Error() != "compile train: it does not fit" {
		t.Errorf("an error by its code alone: got %v", large)
	}
	other := errors.New("INVALID_ARGUMENT: shapes")
	if large := AsTooLarge(other); large != nil {
		t.Errorf("another error became %v", large)
	}
}
