package xla

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"limner/internal/disk"
	"limner/internal/plaintext"
)

// A file of executables holds compiled programs, of the cache one, of others any number:
//
//	8 bytes   executablesMagic
//	4 bytes   executablesVersion, little-endian
//	4 bytes   the header's size, little-endian
//	header    JSON: a list of executables
//	payloads  what the plugin made of each, one behind the other in the header's order
const (
	executablesMagic   = "limnerEX"
	executablesVersion = 1
	maxHeader          = 1 << 24
	maxPayload         = 4 << 30 // more than any program has
)

// executable is what a file says of one of its programs.
type executable struct {
	Key    programKey `json:"key"`
	Size   int64      `json:"size"` // of the payload
	SHA256 string     `json:"sha256"`
}

// executables is an open file of them, of which the header has been read.
type executables struct {
	path    string
	file    *os.File
	list    []executable
	offsets []int64 // of the payloads
}

// openExecutables opens a file and reads its header.
func openExecutables(path string) (*executables, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	e := &executables{path: path, file: f}
	info, err := f.Stat()
	if err == nil {
		e.list, e.offsets, err = readExecutables(f, info.Size())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return e, nil
}

// readExecutables reads the header of a file of the given size. It fails unless the payloads fill the rest of the file.
func readExecutables(r io.Reader, size int64) (list []executable, offsets []int64, err error) {
	var front [16]byte
	if _, err := io.ReadFull(r, front[:]); err != nil || string(front[:8]) != executablesMagic {
		return nil, nil, errors.New("is no file of executables of limner")
	}
	if version := binary.LittleEndian.Uint32(front[8:]); version != executablesVersion {
		return nil, nil, fmt.Errorf("has format %d, this limner reads format %d", version, executablesVersion)
	}
	n := int64(binary.LittleEndian.Uint32(front[12:]))
	if n > maxHeader || n > size-int64(len(front)) {
		return nil, nil, fmt.Errorf("is damaged: a header of %d bytes in a file of %d", n, size)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, nil, fmt.Errorf("read its header: %w", err)
	}
	if err := plaintext.JSON(header, &list); err != nil {
		return nil, nil, fmt.Errorf("is damaged: its header: %w", err)
	}
	at := int64(len(front)) + n
	for _, e := range list {
		if e.Size < 0 || e.Size > min(size-at, maxPayload) {
			return nil, nil, fmt.Errorf("is damaged: %s has %d bytes, want at most %d",
				e.Key.Name, e.Size, min(size-at, maxPayload))
		}
		offsets = append(offsets, at)
		at += e.Size
	}
	if at != size {
		return nil, nil, fmt.Errorf("is damaged: it has %d bytes, its header speaks of %d", size, at)
	}
	return list, offsets, nil
}

// payload reads what the plugin made of a program.
func (e *executables) payload(i int) ([]byte, error) {
	data := make([]byte, e.list[i].Size)
	if _, err := e.file.ReadAt(data, e.offsets[i]); err != nil {
		return nil, fmt.Errorf("read %s: %w", e.path, err)
	}
	if sum(data) != e.list[i].SHA256 {
		return nil, fmt.Errorf("%s is damaged: %s has another SHA-256 than its header says", e.path, e.list[i].Key.Name)
	}
	return data, nil
}

func (e *executables) close() error { return e.file.Close() }

// writeExecutables writes a file whole or not at all. Only its owner may read it: what is loaded from it is run.
func writeExecutables(path string, keys []programKey, payloads [][]byte) error {
	list := make([]executable, len(keys))
	for i, key := range keys {
		list[i] = executable{Key: key, Size: int64(len(payloads[i])), SHA256: sum(payloads[i])}
	}
	header, err := json.Marshal(list)
	if err != nil {
		return err
	}
	var front bytes.Buffer
	front.WriteString(executablesMagic)
	front.Write(binary.LittleEndian.AppendUint32(nil, executablesVersion))
	front.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(header))))
	front.Write(header)
	return disk.Replace(path, 0o600, func(w io.Writer) error {
		for _, part := range append([][]byte{front.Bytes()}, payloads...) {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
}

// SaveExecutables writes planned programs into one file, from which Options.Executables loads them where their devices
// are.
func SaveExecutables(path string, programs ...*Program) error {
	keys, payloads := make([]programKey, len(programs)), make([][]byte, len(programs))
	for i, p := range programs {
		if p.loaded != nil {
			return fmt.Errorf("save %s: it was not planned: its devices are here, and their cache keeps it", p.name)
		}
		var err error
		if payloads[i], err = p.executable.Serialize(); err != nil {
			return fmt.Errorf("save %s: %w", p.name, err)
		}
		keys[i] = p.key
	}
	if err := writeExecutables(path, keys, payloads); err != nil {
		return fmt.Errorf("save executables: %w", err)
	}
	return nil
}

// sum is the SHA-256 in hexadecimal.
func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}
