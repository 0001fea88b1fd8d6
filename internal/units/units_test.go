package units

import "testing"

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 kB", 999_999: "999 kB", 1_000_000: "1.0 MB", 99_999_999: "100.0 MB", 100_000_000: "0.1 GB",
		12_345_678_901: "12.3 GB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
