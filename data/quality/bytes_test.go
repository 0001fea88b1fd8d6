package quality

import "testing"

func TestPrintBytes(t *testing.T) {
	p := reduced(t, photograph(t, "coffee")).Print()
	raw, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Print
	if err := got.UnmarshalBinary(raw); err != nil || got != p {
		t.Errorf("got %v, %v, want %v", got, err, p)
	}
	if err := got.UnmarshalBinary(raw[1:]); err == nil {
		t.Error("a print that is too short is read")
	}
}
