//go:build interop

package safetensors

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// reference reads files with the Rust implementation through its Python package: frames of a length and
// a file come in, lines of JSON go out.
const reference = `
import hashlib, json, struct, sys
import safetensors
assert safetensors.__version__ == "0.8.0", safetensors.__version__
while True:
    head = sys.stdin.buffer.read(8)
    if not head:
        break
    data = sys.stdin.buffer.read(struct.unpack("<Q", head)[0])
    try:
        h = hashlib.sha256()
        tensors = dict(safetensors.deserialize(data))
        for key in sorted(tensors, key=lambda k: k.encode()):
            t = tensors[key]
            h.update(("%s\0%s\0%s\0" % (key, t["dtype"], list(t["shape"]))).encode())
            h.update(bytes(t["data"]))
        answer = {"accept": True, "hash": h.hexdigest()}
    except BaseException as e:
        answer = {"accept": False, "error": "%s: %s" % (type(e).__name__, e)}
    print(json.dumps(answer), flush=True)
`

type verdict struct {
	Accept bool
	Hash   string
	Error  string
}

type referenceReader struct {
	in  io.Writer
	out *bufio.Scanner
}

// startReference runs the interpreter that LIMNER_PYTHON names, which has safetensors 0.8.0.
func startReference(t *testing.T) *referenceReader {
	t.Helper()
	python := os.Getenv("LIMNER_PYTHON")
	if python == "" {
		t.Fatal("set LIMNER_PYTHON to a Python with safetensors 0.8.0")
	}
	cmd := exec.Command(python, "-c", reference)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<24)
	return &referenceReader{in, lines}
}

func (r *referenceReader) read(t *testing.T, data []byte) verdict {
	t.Helper()
	frame := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	if _, err := r.in.Write(append(frame, data...)); err != nil {
		t.Fatal(err)
	}
	if !r.out.Scan() {
		t.Fatalf("the reference stopped: %v", r.out.Err())
	}
	var v verdict
	if err := json.Unmarshal(r.out.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// ours reads a file with this package.
func ours(data []byte) verdict {
	f, err := parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return verdict{Error: err.Error()}
	}
	h := sha256.New()
	for _, key := range f.Keys() {
		t := f.tensors[key]
		shape := strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ", ")
		fmt.Fprintf(h, "%s\x00%s\x00%s\x00", key, t.DType, shape)
		raw, err := t.Bytes()
		if err != nil {
			return verdict{Error: err.Error()}
		}
		h.Write(raw)
	}
	return verdict{Accept: true, Hash: hex.EncodeToString(h.Sum(nil))}
}

// TestSameVerdictAsRust compares this reader with the Rust implementation on crafted and on mutated files.
func TestSameVerdictAsRust(t *testing.T) {
	ref := startReference(t)
	count := map[string]int{}
	compare := func(kind, name string, data []byte) {
		want, got := ref.read(t, data), ours(data)
		if want.Accept && !got.Accept && strings.Contains(got.Error, fmt.Sprintf("has more than %d numbers", MaxRank)) {
			count[kind+", refused for its dimensions alone"]++ // a limit that only ours has
			return
		}
		if got.Accept != want.Accept || got.Hash != want.Hash {
			t.Errorf("%s: got accept %v (%s), the reference %v (%s)\n%.300q",
				name, got.Accept, got.Error, want.Accept, want.Error, data)
		}
		if want.Accept {
			kind += " accepted"
		}
		count[kind]++
	}
	var bad, good [][]byte
	for _, c := range malformed {
		compare("crafted", c.name, c.data)
		bad = append(bad, c.data)
	}
	for _, c := range unusual {
		compare("crafted", c.name, c.data)
		good = append(good, c.data)
	}
	compare("crafted", "header at the limit", raw("{}"+strings.Repeat(" ", maxHeader-2), 0))
	compare("crafted", "header above the limit, whole", raw("{}"+strings.Repeat(" ", maxHeader-1), 0))

	const mutations = 20000
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range mutations {
		seeds := good
		if i%4 == 0 {
			seeds = bad
		}
		data := mutate(rng, seeds[rng.IntN(len(seeds))])
		compare("mutated", fmt.Sprintf("mutation %d", i), data)
	}
	t.Log(count)
}

// mutate changes a file in a few places. Half of the time the header's length is put right afterwards, so that
// what changed in the JSON is what is judged.
func mutate(rng *rand.Rand, seed []byte) []byte {
	data := slices.Clone(seed)
	body := 0 // bytes behind the header
	if len(data) >= lengthSize {
		if n := binary.LittleEndian.Uint64(data); n <= uint64(len(data)-lengthSize) {
			body = len(data) - lengthSize - int(n)
		}
	}
	tokens := []string{"0", "1", "-", "9", "e", ".", "[", "]", "{", "}", ",", ":", `"`, " ", "null", "true", `\u0061`, `\ud800`, "\xff", "é",
		`"dtype"`, `"shape"`, `"data_offsets"`, `"__metadata__"`, `"U8"`, `"F16"`,
		"18446744073709551616", "00", "\x00", "\t"}
	for range 1 + rng.IntN(3) {
		if len(data) == 0 {
			data = append(data, byte(rng.IntN(256)))
		}
		at := rng.IntN(len(data))
		switch rng.IntN(6) {
		case 0:
			data[at] ^= 1 << rng.IntN(8)
		case 1:
			data = slices.Insert(data, at, []byte(tokens[rng.IntN(len(tokens))])...)
		case 2:
			data = slices.Delete(data, at, min(len(data), at+1+rng.IntN(4)))
		case 3:
			data = append(data, byte(rng.IntN(256)))
		case 4:
			from := rng.IntN(len(data))
			data = slices.Insert(data, at, slices.Clone(data[from:min(len(data), from+rng.IntN(40))])...)
		case 5: // another digit
			if i := slices.IndexFunc(data[at:], func(c byte) bool { return c >= '0' && c <= '9' }); i >= 0 {
				data[at+i] = byte('0' + rng.IntN(10))
			}
		}
	}
	if rng.IntN(2) == 0 && len(data) >= lengthSize+body {
		binary.LittleEndian.PutUint64(data, uint64(len(data)-lengthSize-body))
	}
	return data
}
