package pjrt

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// failingPlugin runs programs of two results on each device and fails on the second device after it gave the results.
// As its version it names the results that were not freed.
const failingPlugin = `
#include <string.h>
#include "api.h"

static char alive[5] = "....";
static void *run(execute_args *a) {
	for (size_t i = 0; i < a->devices; i++) {
		a->done[i] = i == 1 ? "fails" : "";
		for (size_t k = 0; k < 2; k++) {
			char *buffer = alive + 2 * i + k;
			*buffer = "abcd"[2 * i + k];
			a->outputs[i][k] = buffer;
		}
	}
	return 0;
}
static void *await(object_args *a) { return *(char *)a->in ? a->in : 0; }
static void *ignore(void *a) { return 0; }
static void *destroy(object_args *a) { *(char *)a->in = '.'; return 0; }
static void *message(error_message_args *a) { a->text = a->error; a->text_size = strlen(a->text); return 0; }
static void *version(text_args *a) { a->text = alive; a->text_size = 4; return 0; }

static void *table[128];
const void *GetPjrtApi(void) {
	table[0] = (void *)sizeof table;
	table[2] = (void *)24;
	table[error_message / 8] = message, table[error_code / 8] = ignore, table[error_destroy / 8] = ignore;
	table[event_await / 8] = await, table[event_destroy / 8] = ignore;
	table[loaded_executable_execute / 8] = run, table[buffer_destroy / 8] = destroy;
	table[client_platform_version / 8] = version;
	return table;
}`

// The results of a run that fails on one of the devices are freed, those of the other devices too.
func TestFailedExecuteFreesItsResults(t *testing.T) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler is here to build a plugin")
	}
	dir := t.TempDir()
	source, library := filepath.Join(dir, "failing.c"), filepath.Join(dir, "failing.so")
	if err := os.WriteFile(source, []byte(failingPlugin), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command(compiler, "-I.", "-shared", "-fPIC", "-o", library, source)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	table, err := Load(library)
	if err != nil {
		t.Fatal(err)
	}
	client := &Client{table: table}
	results, err := (&Loaded{client: client, outputs: 2}).Execute(nil, 2, 0)
	if err == nil || !strings.Contains(err.Error(), "fails") || results != nil {
		t.Errorf("got %d results and error %v, want none and the second device's", len(results), err)
	}
	if kept, err := client.Version(); err != nil || kept != "...." {
		t.Errorf("results %q were not freed (%v)", kept, err)
	}
}
