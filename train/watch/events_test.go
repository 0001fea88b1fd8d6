package watch

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields splits a message into its fields, for a test of what was written.
func fields(t *testing.T, message []byte) map[protowire.Number][][]byte {
	t.Helper()
	out := map[protowire.Number][][]byte{}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		message = message[n:]
		size := protowire.ConsumeFieldValue(number, kind, message)
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		value := message[:size]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		out[number] = append(out[number], value)
		message = message[size:]
	}
	return out
}

func TestEvents(t *testing.T) {
	dir := t.TempDir()
	e := &events{dir: dir, step: 4}
	if err := e.scalars(5, map[string]float64{"lr": 0.25, "loss": 1.5}); err != nil {
		t.Fatal(err)
	}
	if err := e.image(6, "validation/0", []byte("png"), 300, 2); err != nil {
		t.Fatal(err)
	}
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %q, %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var records []map[protowire.Number][][]byte
	for len(raw) > 0 {
		n := int(binary.LittleEndian.Uint64(raw))
		if binary.LittleEndian.Uint32(raw[8:]) != maskedCRC(raw[:8]) ||
			binary.LittleEndian.Uint32(raw[12+n:]) != maskedCRC(raw[12:12+n]) {
			t.Fatal("a wrong checksum")
		}
		records = append(records, fields(t, raw[12:12+n]))
		raw = raw[16+n:]
	}
	if len(records) != 4 || string(records[0][eventFileVersion][0]) != "brain.Event:2" {
		t.Fatalf("%d records", len(records))
	}
	if step, _ := protowire.ConsumeVarint(records[1][eventStep][0]); step != 5 || records[1][eventSessionLog] == nil {
		t.Error("nothing says that later steps are void")
	}
	values := fields(t, records[2][eventSummary][0])[summaryValue]
	if len(values) != 2 {
		t.Fatalf("%d values", len(values))
	}
	first := fields(t, values[0])
	if string(first[valueTag][0]) != "loss" ||
		math.Float32frombits(binary.LittleEndian.Uint32(first[valueSimple][0])) != 1.5 {
		t.Error("the first value is not the loss")
	}
	image := fields(t, fields(t, fields(t, records[3][eventSummary][0])[summaryValue][0])[valueImage][0])
	if width, _ := protowire.ConsumeVarint(image[imageWidth][0]); width != 300 ||
		string(image[imageEncoded][0]) != "png" {
		t.Error("the image is another")
	}
	// The check value of the Castagnoli polynomial is 0xe3069283.
	check := uint32(0xe3069283)
	if got, want := maskedCRC([]byte("123456789")), (check>>15|check<<17)+0xa282ead8; got != want {
		t.Errorf("checksum: got %#x, want %#x", got, want)
	}
}
