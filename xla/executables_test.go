package xla

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"limner/xla/plugin"
)

func TestExecutablesThatWereBroughtAlong(t *testing.T) {
	cache := t.TempDir()
	cold := doWalk(t, Options{Cache: cache}, walk(0.1))
	doWalk(t, Options{Cache: cache}, walk(0.2))
	found, err := filepath.Glob(filepath.Join(cache, "*"+plugin.ExecutableExt))
	if err != nil || len(found) != 2 {
		t.Fatal(found, err)
	}
	var keys []programKey
	var payloads [][]byte
	for _, path := range found {
		e, err := openExecutables(path)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := e.payload(0)
		if err != nil {
			t.Fatal(err)
		}
		keys, payloads = append(keys, e.list[0].Key), append(payloads, payload)
	}
	both := filepath.Join(t.TempDir(), "both")
	if err := writeExecutables(both, keys, payloads); err != nil {
		t.Fatal(err)
	}
	warm := doWalk(t, Options{Executables: []string{both}}, walk(0.1))
	if !warm.program.FromCache || warm.log != "" || fmt.Sprint(warm.values) != fmt.Sprint(cold.values) {
		t.Errorf("loaded %t, said %q", warm.program.FromCache, warm.log)
	}

	for _, c := range []struct {
		name    string
		change  func(*programKey)
		options Options
		scale   float64
		want    string
	}{
		{
			"another program", func(*programKey) {}, Options{}, 0.3,
			"cannot be used: it differs in its program (another network, shape or setting, " +
				"or of another version of limner)\n",
		},
		{"more devices", func(*programKey) {}, Options{Devices: 2}, 0.1, `devices ("1", here "2")`},
		{"another plugin", func(k *programKey) { k.Plugin, k.API = "old.so 12ab", "0.70" }, Options{}, 0.1, `differs in its plugin ("old.so 12ab", here "xla_cpu_pjrt.so `},
		{
			"another effort", func(k *programKey) { k.Options = "" }, Options{}, 0.1,
			"differs in its options of the compiler (such as its effort)\n",
		},
		{"another processor", func(k *programKey) { k.Processor = "i486" }, Options{}, 0.1, `differs in its processor ("i486", here "`},
		{
			"another name", func(k *programKey) { k.Name = "run" }, Options{}, 0.1,
			"no executable of walk was brought along, only of run, run\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := append([]programKey{}, keys...)
			for i := range changed {
				c.change(&changed[i])
			}
			path := filepath.Join(t.TempDir(), "file")
			if err := writeExecutables(path, changed, payloads); err != nil {
				t.Fatal(err)
			}
			c.options.Executables = []string{path}
			w := doWalk(t, c.options, walk(c.scale))
			if w.program.FromCache || strings.Count(w.log, "\n") != 1 || !strings.Contains(w.log, c.want) {
				t.Errorf("loaded %t, said %q, want one line with %q", w.program.FromCache, w.log, c.want)
			}
		})
	}
}

func TestPlannedProgramsAreSaved(t *testing.T) {
	topology, err := FindTopology("v4-8")
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenPlan(t.Context(), topology, Options{Effort: EffortQuick})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p, err := b.Compile(t.Context(), walk(0.1))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "planned")
	if err := SaveExecutables(path, p, p); err != nil {
		t.Fatal(err)
	}
	e, err := openExecutables(path)
	if err != nil {
		t.Fatal(err)
	}
	key := e.list[1].Key
	library, err := plugin.Load(b.Plugin())
	if err != nil {
		t.Fatal(err)
	}
	major, minor := library.Table.Version()
	if want := fmt.Sprintf("%d.%d", major, minor); key.API != want {
		t.Errorf("got PJRT API %s, want libtpu's %s, as it is on the TPU", key.API, want)
	}
	if len(e.list) != 2 || key.Name != "walk" || key.Device != "TPU v4" || key.Devices != 4 || key.Processor != "" ||
		!strings.HasPrefix(key.Plugin, "libtpu.so ") {
		t.Errorf("got %d programs, the last for %+v", len(e.list), key)
	}
	if payload, err := e.payload(1); err != nil || len(payload) == 0 {
		t.Errorf("got %d bytes, %v", len(payload), err)
	}
	here := doWalk(t, Options{Devices: 4, Executables: []string{path}}, walk(0.1))
	if want := `device ("TPU v4", here "cpu")`; here.program.FromCache || !strings.Contains(here.log, want) ||
		strings.Contains(here.log, "in its program") {
		t.Errorf("loaded %t, said %q, want %q and the same program", here.program.FromCache, here.log, want)
	}
	if err := SaveExecutables(path, here.program); err == nil || !strings.Contains(err.Error(), "it was not planned") {
		t.Errorf("a program that was not planned: got %v", err)
	}
}

func TestNoSuchExecutables(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("a text that is long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"missing": "no such file", text: text + ": is no file of executables of limner",
	} {
		if _, err := Open(t.Context(), Options{Executables: []string{path}}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

// Whoever reads while others write gets a whole file.
func TestExecutablesAppearWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "walk"+plugin.ExecutableExt)
	payload := bytes.Repeat([]byte("machine code"), 5000)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 5 {
				if err := writeExecutables(path, []programKey{{Name: "walk"}}, [][]byte{payload}); err != nil {
					t.Error(err)
				}
				e, err := openExecutables(path)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := e.payload(0); err != nil || !bytes.Equal(got, payload) {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			}
		})
	}
	wait.Wait()
}

func FuzzExecutables(f *testing.F) {
	path := filepath.Join(f.TempDir(), "file")
	if err := writeExecutables(path, []programKey{{Name: "a"}, {Name: "b", Devices: 4}},
		[][]byte{[]byte("12"), []byte("345")}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:20])
	f.Add([]byte(executablesMagic + "\x01\x00\x00\x00\x02\x00\x00\x00[]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, offsets, err := readExecutables(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		end := int64(len(data))
		for i := len(list) - 1; i >= 0; i-- {
			if offsets[i] < 16 || offsets[i]+list[i].Size != end {
				t.Fatalf("payload %d: from %d, %d bytes, the next one from %d", i, offsets[i], list[i].Size, end)
			}
			end = offsets[i]
		}
	})
}
