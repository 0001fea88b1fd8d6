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

func TestCount(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -999: "-999", 123_456: "123,456", 1_234_567: "1,234,567",
	} {
		if got := Count(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
