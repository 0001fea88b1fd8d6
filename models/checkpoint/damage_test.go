package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"limner/models/nn"
	"limner/models/safetensors"
)

// A file that is cut short while it is in use says so, wherever it is read: single elements, small and large tensors,
// in every order and dtype.
func TestFileThatIsCutShort(t *testing.T) {
	const want = "the file changed while it was in use"
	tree := nn.Tree{
		{Key: "wide.weight", Shape: []int{300, 400}, Kind: nn.Dense},
		{Key: "deep.weight", Shape: []int{3, 3, 40, 50}, Kind: nn.Kernel},
		{Key: "bias", Shape: []int{70_000}, Kind: nn.Vector},
	}
	values := nn.Values{}
	for _, s := range tree {
		values[s.Key] = make([]float32, s.Size())
	}
	dir := t.TempDir()
	if err := SaveModel(dir, "model.safetensors", tree, values, "F32"); err != nil {
		t.Fatal(err)
	}
	m, err := OpenModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Truncate(filepath.Join(dir, "model.safetensors"), 1000); err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []string{"F32", "F16", "BF16"} {
		read := 0
		err := m.Stream(tree, dtype, func(s nn.Spec, write func(to []byte) error) error {
			err := write(make([]byte, sizeIn(t, dtype, s.Size())))
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), s.Key) {
				t.Errorf("%s as %s: got %v", s.Key, dtype, err)
			}
			read++
			return nil
		})
		if err != nil || read != len(tree) {
			t.Errorf("%s: %d of %d parameters, %v", dtype, read, len(tree), err)
		}
	}
	_, loadErr := m.Load(tree)
	copied := filepath.Join(t.TempDir(), "copy.safetensors")
	var entries []safetensors.Entry
	for _, s := range tree {
		tensor, _ := m.Tensor(s.Key)
		entries = append(entries, safetensors.Entry{
			Key: s.Key, DType: "F32", Shape: tensor.Shape, Parts: []safetensors.Tensor{tensor},
			Order: safetensors.MemoryOrder,
		})
	}
	writeErr := safetensors.Write(copied, entries, nil)
	if _, err := os.Stat(copied); err == nil {
		t.Error("half of a file was written")
	}
	tensor, _ := m.Tensor("bias")
	_, floatErr := tensor.Float32s()
	sampleErr := m.Sample(tree, tree, 5, func(nn.Spec, []float32) error { return nil })
	for name, err := range map[string]error{
		"load": loadErr, "write": writeErr, "float32s": floatErr, "sample": sampleErr,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Pipes and devices are neither waited for nor read.
func TestWeightsAreRegularFiles(t *testing.T) {
	dir := t.TempDir()
	pipe, device := filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "config.json")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", device); err != nil {
		t.Fatal(err)
	}
	_, openErr := safetensors.Open(pipe)
	_, fileErr := OpenFile(pipe)
	_, modelErr := OpenModel(dir)
	var v struct{}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"open": {openErr, "a pipe"}, "file": {fileErr, "a pipe"}, "model": {modelErr, "a pipe"},
		"config": {ReadConfig(device, &v), "a device"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, c.err, c.want)
		}
	}
}

// Heads and names of MessagePack are read through a window, which is smaller than the file.
func TestMsgpackWindow(t *testing.T) {
	var file bytes.Buffer
	file.WriteByte(0xde) // a map of so many entries
	const n = 300
	file.Write([]byte{n >> 8, n & 0xff})
	for i := range n {
		name := at("layers", i, strings.Repeat("x", 40))
		file.WriteByte(0xd9)
		file.WriteByte(byte(len(name)))
		file.WriteString(name)
		file.Write([]byte{0xc7, 17, flaxArray, 0x93, 0x91, 1, 0xa7}) // shape [1], and the name of a dtype
		file.WriteString("float32")
		file.Write([]byte{0xc4, 4, 0, 0, byte(i), 0x3f})
	}
	raw := file.Bytes()
	tensors, err := parseMsgpack(bytes.NewReader(raw), int64(len(raw)))
	if err != nil || len(tensors) != n {
		t.Fatalf("%d tensors, %v", len(tensors), err)
	}
	for i := range n {
		name := at("layers", i, strings.Repeat("x", 40))
		if got := bytesIn(t, tensors[name]); !bytes.Equal(got, []byte{0, 0, byte(i), 0x3f}) {
			t.Fatalf("%s: %v", name, got)
		}
	}
	if len(raw) < 3*msgpackWindow {
		t.Errorf("%d bytes are too few", len(raw))
	}
}

// bytesIn are the elements of a tensor.
func bytesIn(t testing.TB, tensor safetensors.Tensor) []byte {
	t.Helper()
	data, err := tensor.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}
