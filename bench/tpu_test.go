package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copies is an optimised program (an HloModuleProto) that writes 4 GB: an iota of 10⁹ float32.
const copies = "\x12\x04main\x1a\x20\x0a\x04main\x12\x16\x0a\x01x\x12\x04iota" +
	"\x1a\x08\x10\x0b\x18\x80\x94\xeb\xdc\x03\x98\x02\x01\x28\x02"

// Ours and the peer's figures meet per image, and seconds that the compiler took off for what it does not know are
// added back. A time that is not sane leaves its row out.
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
	write("tpu-peer.json", `{
		"train": {"peak_bytes": 27e9, "bytes_accessed": 240e9, "optimal_seconds": -3.74, "flop": 50e12, "program": "copies.hlo"},
		"decode": {"bytes_accessed": 20e9, "optimal_seconds": 0.025, "flop": 5e12, "program": "copies.hlo"},
		"denoise": {"bytes_accessed": 30e9, "optimal_seconds": 9, "flop": 1e12, "program": "copies.hlo"}}`)
	write("tpu-cached-4.json", `{"reports": [{"fits": true, "variant": {"batch_per_chip": 2}, "seconds": 0.052, "bytes_per_image": 24e9, "peak_bytes": 9000000000,
		"programs": [{"runs": 2, "bytes_hbm": 1e9}]}]}`)
	write("tpu-sample.json", `{"reports": [{"fits": true, "programs": [
		{"name": "decoding", "seconds": 0.02, "bytes_accessed": 8e9, "bytes_hbm": 2e9}, {"name": "denoising step", "seconds": 0.02, "bytes_accessed": 15e9, "bytes_hbm": 1e9}]}]}`)
	if err := compareTPU(dir, &out); err == nil || !strings.Contains(err.Error(), "copies.hlo") {
		t.Errorf("without the peer's program: got %v", err)
	}
	write("copies.hlo", copies)
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
		"tpu-cached-4_hbm 1.000 GB flax 1.000 GB 1.000 ≤ 0.5 missed",
		"tpu-cached-4_peak 9.000 GB flax 27.000 GB 0.333 ≤ 1 met",
		"denoise_traffic 15.000 GB flax 30.000 GB 0.500 ≤ 0.7 met",
		"denoise_hbm 1.000 GB flax 4.000 GB 0.250 ≤ 0.7 met",
		"decode_time 20.000 ms flax 25.000 ms 0.800 ≤ 1 met",
		"decode_traffic 8.000 GB flax 20.000 GB 0.400 ≤ 1 met",
		"decode_hbm 2.000 GB flax 4.000 GB 0.500 ≤ 1 met",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
