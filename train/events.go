package train

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// events writes a file of TensorBoard's: records of framed tensorflow.Event messages.
type events struct {
	file *os.File
}

// Fields of tensorflow's event.proto and summary.proto.
const (
	eventWallTime, eventStep, eventFileVersion, eventSummary, eventSessionLog = 1, 2, 3, 5, 7
	summaryValue                                                              = 1
	valueTag, valueSimple, valueImage                                         = 1, 2, 4
	imageHeight, imageWidth, imageColours, imageEncoded                       = 1, 2, 3, 4
	sessionStatus, sessionStart                                               = 1, 1
)

// newEvents begins a file in dir for a run that goes on after the given step: what earlier files say of later steps is void.
func newEvents(dir string, step int) (*events, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("TensorBoard events: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	name := fmt.Sprintf("events.out.tfevents.%010d.%s.%d.%d", time.Now().Unix(), host, os.Getpid(), time.Now().Nanosecond())
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("TensorBoard events: %w", err)
	}
	e := &events{file}
	version := protowire.AppendTag(nil, eventFileVersion, protowire.BytesType)
	version = protowire.AppendString(version, "brain.Event:2")
	start := protowire.AppendTag(nil, sessionStatus, protowire.VarintType)
	start = protowire.AppendVarint(start, sessionStart)
	if err := e.write(0, version); err != nil {
		return nil, err
	}
	return e, e.write(step+1, field(nil, eventSessionLog, start))
}

// field appends a message or a text.
func field(b []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
}

// scalars writes numbers of a step under their tags.
func (e *events) scalars(step int, numbers map[string]float64) error {
	var summary []byte
	for _, tag := range slices.Sorted(maps.Keys(numbers)) {
		value := field(nil, valueTag, []byte(tag))
		value = protowire.AppendTag(value, valueSimple, protowire.Fixed32Type)
		value = protowire.AppendFixed32(value, math.Float32bits(float32(numbers[tag])))
		summary = field(summary, summaryValue, value)
	}
	return e.write(step, field(nil, eventSummary, summary))
}

// image writes a PNG of a step.
func (e *events) image(step int, tag string, png []byte, width, height int) error {
	var image []byte
	for _, n := range []struct {
		field protowire.Number
		value int
	}{{imageHeight, height}, {imageWidth, width}, {imageColours, 3}} {
		image = protowire.AppendVarint(protowire.AppendTag(image, n.field, protowire.VarintType), uint64(n.value))
	}
	image = field(image, imageEncoded, png)
	value := field(field(nil, valueTag, []byte(tag)), valueImage, image)
	return e.write(step, field(nil, eventSummary, field(nil, summaryValue, value)))
}

// write frames an event: its length, a checksum of that, the event, and its checksum.
func (e *events) write(step int, what []byte) error {
	var event []byte
	now := float64(time.Now().UnixNano()) / float64(time.Second)
	event = protowire.AppendFixed64(protowire.AppendTag(event, eventWallTime, protowire.Fixed64Type), math.Float64bits(now))
	event = protowire.AppendVarint(protowire.AppendTag(event, eventStep, protowire.VarintType), uint64(step))
	event = append(event, what...)
	record := binary.LittleEndian.AppendUint64(nil, uint64(len(event)))
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(record))
	record = append(record, event...)
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(event))
	if _, err := e.file.Write(record); err != nil {
		return fmt.Errorf("TensorBoard events: %w", err)
	}
	return nil
}

func (e *events) close() error { return e.file.Close() }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the checksum of TFRecord files.
func maskedCRC(data []byte) uint32 {
	const mask = 0xa282ead8
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + mask
}
