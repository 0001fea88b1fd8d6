package cpu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The kernels, compiled with the address and undefined-behaviour sanitizers, take and refuse what they must and give
// what plain loops give.
func TestKernelsUnderSanitizers(t *testing.T) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler is here")
	}
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.c")
	if err := os.WriteFile(empty, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sanitizers := []string{"-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}
	if out, err := exec.Command(compiler, append(sanitizers, "-o", filepath.Join(dir, "empty"), empty)...).
		CombinedOutput(); err != nil {
		t.Skipf("the C compiler has no sanitizers: %s", out)
	}
	program := filepath.Join(dir, "sanitize")
	args := append(sanitizers, "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-o", program,
		"testdata/sanitize.c", "amx.c", "attend.c", "convolve.c", "normalize.c", "ffi.c", "-lm", "-lpthread")
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	command := exec.Command(program)
	command.Env = append(command.Environ(), "ASAN_OPTIONS=detect_leaks=0") // threads keep their scratch memory
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
