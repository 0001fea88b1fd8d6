package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"limner/internal/plaintext"
	"limner/models/safetensors"
	"limner/sample"
)

// latentsKey is the tensor of a file of latents, [images, channels, height/8, width/8] as PyTorch has them.
const latentsKey = "latents"

// givenLatents are those of --latents, one image after another in the file. nil is none.
type givenLatents struct {
	file   *safetensors.File
	tensor safetensors.Tensor
}

// openLatents opens the file of --latents and checks that it has an image for each job.
func (c *Options) openLatents(work []*job, m sample.Model) (g *givenLatents, err error) {
	if c.Latents == "" {
		return nil, nil
	}
	f, err := safetensors.Open(c.Latents)
	if err != nil {
		return nil, fmt.Errorf("load latents: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	tensor, ok := f.Tensor(latentsKey)
	if !ok {
		return nil, fmt.Errorf("load latents: %s has no tensor %s", c.Latents, latentsKey)
	}
	sum, err := fileSum(c.Latents)
	if err != nil {
		return nil, err
	}
	scale, channels := m.Pipeline.VAE.Scale(), m.Pipeline.VAE.LatentChannels
	for _, j := range work {
		j.files = append(j.files, named(noiseFlag, c.Latents, sum))
		want := []int{len(work), channels, j.Height / scale, j.Width / scale}
		if !slices.Equal(tensor.Shape, want) {
			return nil, fmt.Errorf("load latents: %s: %s has the shape %v, want %v for %d images of %d×%d pixels",
				c.Latents, latentsKey, tensor.Shape, want, len(work), j.Width, j.Height)
		}
	}
	return &givenLatents{f, tensor}, nil
}

// of are the latents [height/8, width/8, channels] that a job begins from; nil: noise.
func (g *givenLatents) of(j *job) ([]float32, error) {
	if g == nil {
		return nil, nil
	}
	one := g.tensor.At(j.index)
	values, err := one.Float32s()
	if err != nil {
		return nil, fmt.Errorf("load latents: %w", err)
	}
	return swapped(values, one.Shape[0]), nil
}

// Close closes the file.
func (g *givenLatents) Close() error {
	if g == nil {
		return nil
	}
	return g.file.Close()
}

// latentsWriter writes the latents after the last step, as one tensor or, where sizes differ, as one for each image.
// The file has its whole size from the beginning, and another name until all images are in it. nil writes nothing.
type latentsWriter struct {
	file     *os.File
	path     string // in the end
	channels int
	offsets  []int64 // of the images
}

// openLatentsWriter goes on with the file of the same jobs, or makes it.
func openLatentsWriter(path string, work []*job, channels, scale int) (*latentsWriter, error) {
	part := filepath.Join(filepath.Dir(path), latentsPart)
	err := os.Rename(path, part) // images that were in a whole one are missing
	if errors.Is(err, fs.ErrNotExist) && !isFile(part) {
		err = safetensors.Write(part, latentEntries(work, channels, scale), nil)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("write latents: %w", err)
	}
	w := &latentsWriter{path: path, channels: channels}
	if w.file, err = os.OpenFile(part, os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("write latents: %w", err)
	}
	if w.offsets, err = latentOffsets(w.file, work, channels, scale); err != nil {
		return nil, errors.Join(fmt.Errorf("write latents: %s: %w", part, err), w.file.Close())
	}
	return w, nil
}

// latentEntries are the tensors of the file, all zeros.
func latentEntries(work []*job, channels, scale int) []safetensors.Entry {
	first, same := work[0], true
	var entries []safetensors.Entry
	zeros := map[int][]byte{} // shared by images of a size
	var parts []safetensors.Tensor
	for _, j := range work {
		same = same && j.Height == first.Height && j.Width == first.Width
		shape := []int{1, channels, j.Height / scale, j.Width / scale}
		n := 4 * channels * shape[2] * shape[3]
		if zeros[n] == nil {
			zeros[n] = make([]byte, n)
		}
		entries = append(entries, safetensors.Entry{Key: latentKey(j), DType: "F32", Shape: shape, Data: zeros[n]})
		parts = append(parts, safetensors.RawTensor("F32", shape, zeros[n]))
	}
	if !same {
		return entries
	}
	return []safetensors.Entry{
		{Key: latentsKey, DType: "F32", Shape: append([]int{len(work)}, parts[0].Shape[1:]...), Parts: parts},
	}
}

// latentKey is the tensor of a job in a file of images of several sizes.
func latentKey(j *job) string { return fmt.Sprintf("%s.%d", latentsKey, j.index) }

// latentOffsets reads from a file's header where the latents of each job lie.
func latentOffsets(f *os.File, work []*job, channels, scale int) ([]int64, error) {
	var length [8]byte
	if _, err := f.ReadAt(length[:], 0); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint64(length[:]))
	if n > mostRecord {
		return nil, fmt.Errorf("a header of %d bytes", n)
	}
	raw := make([]byte, n)
	if _, err := f.ReadAt(raw, 8); err != nil {
		return nil, err
	}
	var header map[string]struct {
		DataOffsets [2]int64 `json:"data_offsets"`
	}
	if err := plaintext.JSON(raw, &header); err != nil {
		return nil, err
	}
	offsets := make([]int64, len(work))
	offset := 8 + n + header[latentsKey].DataOffsets[0]
	for i, j := range work {
		size := int64(4 * channels * (j.Height / scale) * (j.Width / scale))
		if one, ok := header[latentKey(j)]; ok {
			offset = 8 + n + one.DataOffsets[0]
		}
		offsets[i] = offset
		offset += size
	}
	if info, err := f.Stat(); err != nil || len(header) != 1 && len(header) != len(work) ||
		len(header) == 1 && info.Size() != offset {
		return nil, errors.Join(errors.New("it is not that of these images: remove it, and they are sampled again"),
			err)
	}
	return offsets, nil
}

// write puts the latents [height/8, width/8, channels] of an image into the file.
func (w *latentsWriter) write(i int, latents []float32) error {
	if w == nil {
		return nil
	}
	raw := make([]byte, 0, 4*len(latents))
	for _, v := range swapped(latents, len(latents)/w.channels) {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	if _, err := w.file.WriteAt(raw, w.offsets[i]); err != nil {
		return fmt.Errorf("write latents: %w", err)
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("write latents: %w", err)
	}
	return nil
}

// finish gives the file its name: all images are in it.
func (w *latentsWriter) finish() error {
	if w == nil {
		return nil
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return fmt.Errorf("write latents: %w", err)
	}
	return nil
}

// Close closes the file.
func (w *latentsWriter) Close() error {
	if w == nil {
		return nil
	}
	return w.file.Close()
}

// swapped is x [rows, n] as [n, rows].
func swapped(x []float32, rows int) []float32 {
	n := len(x) / rows
	out := make([]float32, len(x))
	for i := range rows {
		for k := range n {
			out[k*rows+i] = x[i*n+k]
		}
	}
	return out
}
