package latents

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"limner/data/imaging"
	"limner/models/nn"
	"limner/models/safetensors"
	"limner/models/vae"
)

// cache keeps moments in files: DIR/VAE/xx/IMAGE.safetensors, where VAE is a hash of the encoder's config and
// weights, and IMAGE one of the pixels as the VAE sees them, after decoding, resizing, cropping and flipping. So an
// entry is right wherever the folder is brought, and whatever made it.
type cache struct {
	root, vae string
	size      int // values of an entry
	read      int // entries that were there
	damaged   []error
	writes    errgroup.Group       // of the latest batch
	made      map[string][]float32 // in this run, by path, whether written yet or not
}

// cacheWriters is how many entries are written at once: most of the time of each is the disk's, not the processor's.
const cacheWriters = 16

// The parts of an entry: one tensor, and the hash of its bytes in the header.
const (
	entryTensor = "moments"
	entryHash   = "sha256"
)

func newCache(root string, c vae.Config, weights nn.Source, resolution int) (*cache, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(c); err != nil {
		return nil, err
	}
	tree, sums := c.EncoderTree().Under("vae"), map[string][sha256.Size]byte{}
	var elements []byte
	err := weights.Stream(tree, "F32", func(spec nn.Spec, write func(to []byte) error) error {
		elements = slices.Grow(elements[:0], 4*spec.Size())[:4*spec.Size()]
		err := write(elements)
		sums[spec.Key] = sha256.Sum256(elements)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, spec := range tree {
		fmt.Fprintln(h, spec.Key, spec.Shape, sums[spec.Key])
	}
	side := resolution / c.Scale()
	kept := &cache{
		root: root, vae: shortHash(h.Sum(nil)), size: side * side * 2 * c.LatentChannels, made: map[string][]float32{},
	}
	kept.writes.SetLimit(cacheWriters)
	return kept, nil
}

func shortHash(sum []byte) string { return hex.EncodeToString(sum[:16]) }

// path is where the moments of an image lie.
func (c *cache) path(image *imaging.RGB) string {
	sum := sha256.Sum256(slices.Concat([]byte(fmt.Sprintf("%d×%d ", image.Width, image.Height)), image.Pix))
	name := shortHash(sum[:])
	return filepath.Join(c.root, c.vae, name[:2], name+".safetensors")
}

// get is the entry at path, or nil where there is none that is whole.
func (c *cache) get(path string) []float32 {
	if moments := c.made[path]; moments != nil {
		c.read++
		return moments
	}
	moments, err := c.readEntry(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		c.damaged = append(c.damaged, fmt.Errorf("%s: %w", path, err))
		return nil
	}
	c.read++
	return moments
}

func (c *cache) readEntry(path string) ([]float32, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, ok := f.Tensor(entryTensor)
	if !ok || t.DType != "F32" || t.Size() != c.size {
		return nil, fmt.Errorf("got %s of %v, want %d values of %s in F32", t.DType, t.Shape, c.size, entryTensor)
	}
	raw, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != f.Metadata()[entryHash] {
		return nil, errors.New("its bytes are not those that were written")
	}
	return t.Float32s()
}

// put writes an entry while the caller goes on; see wait.
func (c *cache) put(path string, moments []float32) {
	if c.made[path] != nil {
		return // an image that the dataset has twice
	}
	c.made[path] = moments
	c.writes.Go(func() error { return c.writeEntry(path, moments) })
}

// wait ends when all entries are written, and fails if one could not be.
func (c *cache) wait() error { return c.writes.Wait() }

// writeEntry writes an entry, whole or not at all.
func (c *cache) writeEntry(path string, moments []float32) error {
	raw, err := binary.Append(nil, binary.LittleEndian, moments)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cache_dir: %w", err)
	}
	sum := sha256.Sum256(raw)
	entry := safetensors.Entry{Key: entryTensor, DType: "F32", Shape: []int{len(moments)}, Data: raw}
	return safetensors.Write(path, []safetensors.Entry{entry},
		map[string]string{entryHash: hex.EncodeToString(sum[:])})
}

// report says what the cache was good for, and why it was not for the rest.
func (c *cache) report(logf func(format string, args ...any), made int) {
	logf("latents: %d were in %s, %d were encoded", c.read, c.root, made)
	for _, err := range firstFew(c.damaged) {
		logf("  encoded anew: %v", err)
	}
	if c.read > 0 || made == 0 {
		return
	}
	entries, _ := os.ReadDir(c.root) // a line for a person: without it, nothing is lost
	for _, e := range entries {
		if e.IsDir() && len(e.Name()) == len(c.vae) && e.Name() != c.vae {
			logf("  those that it has are of another VAE: the config or a weight differs")
			return
		}
	}
}

// firstFew is the beginning of a long list of errors.
func firstFew(errs []error) []error {
	const shown = 5
	if more := len(errs) - shown; more > 0 {
		return append(errs[:shown:shown], fmt.Errorf("and %d more", more))
	}
	return errs
}
