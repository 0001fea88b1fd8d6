package quality

import "fmt"

// printBytes is the size of a print.
const printBytes = len(Print{}.Sum) + 8 + len(Print{}.colours)

// MarshalBinary writes the print, so that it can be found again later. It does not fail.
func (p Print) MarshalBinary() ([]byte, error) {
	raw := make([]byte, 0, printBytes)
	raw = append(raw, p.Sum[:]...)
	for shift := range 8 {
		raw = append(raw, byte(p.Hash>>(8*shift)))
	}
	return append(raw, p.colours[:]...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (p *Print) UnmarshalBinary(raw []byte) error {
	if len(raw) != printBytes {
		return fmt.Errorf("the print of a picture of %d bytes, want %d", len(raw), printBytes)
	}
	*p = Print{}
	raw = raw[copy(p.Sum[:], raw):]
	for shift := range 8 {
		p.Hash |= uint64(raw[shift]) << (8 * shift)
	}
	copy(p.colours[:], raw[8:])
	return nil
}
