package watch

import (
	"encoding/binary"
	"errors"
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

// events writes a file of TensorBoard's: records of framed tensorflow.Event messages. The file is made with the first
// of them.
type events struct {
	dir  string
	step int       // that the run goes on after: what earlier files say of later steps is void
	file *appended // nil until it can be made
}

// Fields of tensorflow's event.proto and summary.proto.
const (
	eventWallTime, eventStep, eventFileVersion, eventSummary, eventSessionLog = 1, 2, 3, 5, 7
	summaryValue                                                              = 1
	valueTag, valueSimple, valueImage                                         = 1, 2, 4
	imageHeight, imageWidth, imageColours, imageEncoded                       = 1, 2, 3, 4
	sessionStatus, sessionStart                                               = 1, 1
)

// open makes the file, with what a file begins with.
func (e *events) open() error {
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	name := fmt.Sprintf("events.out.tfevents.%010d.%s.%d.%d",
		time.Now().Unix(), host, os.Getpid(), time.Now().Nanosecond())
	path := filepath.Join(e.dir, name)
	file, err := openAppended(path)
	if err != nil {
		return err
	}
	version := protowire.AppendTag(nil, eventFileVersion, protowire.BytesType)
	version = protowire.AppendString(version, "brain.Event:2")
	start := protowire.AppendTag(nil, sessionStatus, protowire.VarintType)
	start = protowire.AppendVarint(start, sessionStart)
	if err := file.write(append(framed(0, version), framed(e.step+1, field(nil, eventSessionLog, start))...)); err !=
		nil {
		return errors.Join(err, file.close(), os.Remove(path)) // another one is made in its place
	}
	e.file = file
	return nil
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

// write writes an event, or nothing.
func (e *events) write(step int, what []byte) error {
	if e.file == nil {
		if err := e.open(); err != nil {
			return err
		}
	}
	return e.file.write(framed(step, what))
}

// framed is an event as files have it: its length, a checksum of that, the event, and its checksum.
func framed(step int, what []byte) []byte {
	var event []byte
	now := float64(time.Now().UnixNano()) / float64(time.Second)
	event = protowire.AppendFixed64(protowire.AppendTag(event, eventWallTime, protowire.Fixed64Type),
		math.Float64bits(now))
	event = protowire.AppendVarint(protowire.AppendTag(event, eventStep, protowire.VarintType), uint64(step))
	event = append(event, what...)
	record := binary.LittleEndian.AppendUint64(nil, uint64(len(event)))
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(record))
	record = append(record, event...)
	return binary.LittleEndian.AppendUint32(record, maskedCRC(event))
}

func (e *events) close() error {
	if e.file == nil {
		return nil
	}
	return e.file.close()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the checksum of TFRecord files.
func maskedCRC(data []byte) uint32 {
	const mask = 0xa282ead8
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + mask
}
