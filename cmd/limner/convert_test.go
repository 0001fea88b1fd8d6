package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"limner/internal/golden"
	"limner/models/checkpoint"
)

func TestConvertAndShow(t *testing.T) {
	dir := t.TempDir()
	in := golden.Path(t, "sd15-tiny")
	if out, log, code := limner(t, dir, "convert", in, "x.safetensors", "--to", "single-file", "--dtype",
		"bf16"); code != 0 || out != "x.safetensors\n" {
		t.Fatalf("exit %d, %q\n%s", code, out, log)
	}
	out, log, code := limner(t, dir, "show", "x.safetensors")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, log)
	}
	for _, want := range []string{
		"kind      whole model, named as by LDM", "family    SD 1.x (",
		"unet                   517,956 parameters  BF16", "  format: pt", "tensors (966)",
		"more kinds: --all lists every tensor",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("got\n%.1500s\nwant %q", out, want)
		}
	}
	if all, _, _ := limner(t, dir, "show", "--all", "x.safetensors"); strings.Count(all, "\n") < 966 {
		t.Errorf("--all lists %d lines", strings.Count(all, "\n"))
	}
	out, _, code = limner(t, dir, "show", "--json", in)
	var d checkpoint.Description
	if err := json.Unmarshal([]byte(out), &d); err != nil || code != 0 || d.Family != checkpoint.SD1 ||
		len(d.Components) != 4 {
		t.Errorf("exit %d, %v, %s with %d components", code, err, d.Family, len(d.Components))
	}
	if _, log, code := limner(t, dir, "convert", "x.safetensors", "folder", "--to", "ckpt"); code != exitUsage ||
		!strings.Contains(log, "single-file") {
		t.Errorf("unknown format: exit %d, %s", code, log)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.ckpt"), []byte("PK\x03\x04"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, log, code := limner(t, dir, "show", "x.ckpt"); code != exitConfig || !strings.Contains(log, "can run code") {
		t.Errorf("pickle: exit %d, %s", code, log)
	}
}
