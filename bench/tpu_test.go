package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Ours and the peer's figures meet per image, and seconds that the compiler took off for what it does not know are added back.
func TestCompareTPU(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := compareTPU(dir, &out); err == nil || !strings.Contains(err.Error(), "make bench-peers") {
		t.Errorf("without the peer: got %v", err)
	}
	write("tpu-peer.json", `{"train": {"peak_bytes": 27e9, "bytes_accessed": 240e9, "optimal_seconds": -3.74}, "decode": {"bytes_accessed": 20e9, "optimal_seconds": 0.025}}`)
	write("tpu-cached-4.json", `{"reports": [{"fits": true, "variant": {"batch_per_chip": 2}, "seconds": 0.052, "bytes_per_image": 24e9, "peak_bytes": 9000000000}]}`)
	write("tpu-sample.json", `{"reports": [{"fits": true, "programs": [{"name": "decoding", "seconds": 0.02, "bytes_accessed": 8e9}]}]}`)
	if err := compareTPU(dir, &out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"case ours peer ratio goal",
		"tpu-cached-4_time 26.000 ms flax 65.000 ms 0.400 ≤ 0.5 met",
		"tpu-cached-4_traffic 24.000 GB flax 60.000 GB 0.400 ≤ 0.5 met",
		"tpu-cached-4_peak 9.000 GB flax 27.000 GB 0.333 ≤ 1 met",
		"decode_time 20.000 ms flax 25.000 ms 0.800 ≤ 1 met",
		"decode_traffic 8.000 GB flax 20.000 GB 0.400 ≤ 1 met",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
