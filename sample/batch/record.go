package batch

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ImageRecord is how an image was made, as sample.json has it.
type ImageRecord struct {
	Version string          `json:"version"`
	Backend string          `json:"backend"`
	Files   []UsedFile      `json:"files"`
	Sample  SampledSettings `json:"sample"` // flags of limner sample
}

// SampledSettings are the flags that an image was sampled with. Those that name files do so as the command did.
type SampledSettings struct {
	Settings
	NumDevices int `json:"num_devices"`
}

// carried is the record as images carry it: without the flags that a record may not set again, and so without any path.
func (r ImageRecord) carried() (any, error) {
	raw, err := json.Marshal(r.Sample)
	if err != nil {
		return nil, fmt.Errorf("describe image: %w", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("describe image: %w", err)
	}
	some := map[string]json.RawMessage{"num_devices": all["num_devices"]}
	for _, name := range RecordedSettings {
		if value, ok := all[name]; ok {
			some[name] = value
		}
	}
	return struct {
		ImageRecord
		Sample map[string]json.RawMessage `json:"sample"`
	}{r, some}, nil
}

// Text is the record as images carry it: JSON on one line.
func (r ImageRecord) Text() (string, error) {
	carried, err := r.carried()
	if err != nil {
		return "", err
	}
	return plainJSON(carried)
}

// plainJSON is JSON on one line, in ASCII, so that every format can carry it.
func plainJSON(v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("describe image: %w", err)
	}
	var b strings.Builder
	for _, r := range string(raw) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String(), nil
}
