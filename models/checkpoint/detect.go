package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"limner/internal/disk"
	"limner/models/safetensors"
)

// Kind is what a file holds.
type Kind string

const (
	KindPipeline  Kind = "whole model"       // a single-file checkpoint in the naming of the original code
	KindComponent Kind = "component"         // one network
	KindLoRA      Kind = "LoRA"              // changes of low rank to the layers of networks
	KindEmbedding Kind = "textual inversion" // embeddings of new tokens
	KindUnknown   Kind = "unknown"           // tensors of no known kind
)

// Dialect is whose naming a file follows.
type Dialect string

const (
	DialectDiffusers Dialect = "diffusers"
	DialectLDM       Dialect = "LDM" // the original Stable Diffusion and ControlNet code, A1111
	DialectFlax      Dialect = "Flax"
	DialectPEFT      Dialect = "PEFT"
	DialectKohya     Dialect = "kohya"
	DialectA1111     Dialect = "A1111"
	DialectNone      Dialect = ""
)

// Checkpoint is an open file of any supported format, with what was found out about it by its content.
type Checkpoint struct {
	Kind       Kind
	Dialect    Dialect
	Format     string // "safetensors" or "msgpack"
	Family     Family
	Inpainting bool              // the UNet takes a mask and a masked image
	Variant    string            // see Variant; of the UNet
	EMA        bool              // a whole model has EMA's weights too, which are passed over
	Reasons    []string          // what led to the family
	Metadata   map[string]string // of the safetensors header

	path    string
	tensors map[string]safetensors.Tensor // as the file spells them
	parts   map[string]*Model             // by component
	release func() error
}

// OpenFile opens a single file and finds out by its content what it is. Pickled weights and other
// formats that cannot be read are an error that says how to convert them, and so is a ControlNet's difference
// to its base model. The file stays open until Close; the components' Close does nothing.
func OpenFile(path string) (*Checkpoint, error) {
	c, err := openAny(path)
	if err != nil {
		return nil, err
	}
	if c.IsDifference() {
		return nil, errors.Join(fmt.Errorf("open %s: %s", path, explainDifference), c.Close())
	}
	return c, nil
}

// differenceKey marks the file of a ControlNet whose weights are to be added to those of the model it was made for.
const differenceKey = "difference"

const explainDifference = "its key \"" + differenceKey +
	"\" says that it holds a ControlNet's difference to the model it was " +
	"made for, which is not supported: take the whole ControlNet, or add that model's weights to " +
	"those of the same keys and leave the key out"

// IsDifference says whether the file is a ControlNet that lacks the weights of the model it was made for.
func (c *Checkpoint) IsDifference() bool {
	_, marked := c.tensors[differenceKey]
	return marked && c.parts[ControlNet] != nil
}

// openAny is OpenFile for files of which only a description is wanted.
func openAny(path string) (*Checkpoint, error) {
	head, err := readHead(path)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{path: path, Family: UnknownFamily, parts: map[string]*Model{}}
	switch {
	case safetensors.IsHead(head):
		err = c.openSafetensors()
	case explainFormat(head) != "":
		return nil, fmt.Errorf("open %s: %s", path, explainFormat(head))
	case isMsgpack(head):
		err = c.openMsgpack()
	default: // whatever it is, the reader of safetensors says what is wrong
		err = c.openSafetensors()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readHead returns the first bytes of a file.
func readHead(path string) ([]byte, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open model file: %w", err)
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("open model file: %w", err)
	}
	return head[:n], nil
}

// explainFormat says what a file is that cannot be read, and what to do; "" if it looks like none of those.
func explainFormat(head []byte) string {
	has := func(prefix string) bool { return bytes.HasPrefix(head, []byte(prefix)) }
	switch {
	case has("PK\x03\x04"), len(head) > 1 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5:
		return "pickled PyTorch weights, " + unpickleFile
	case has("GGUF"):
		return "GGUF, whose quantised weights are not supported: take the .safetensors file of the same model"
	case has("\x89HDF"):
		return "HDF5 (TensorFlow weights): take the .safetensors file of the same model"
	case has("version https://git-lfs"):
		return "a pointer of Git LFS, not the file itself: run git lfs pull, or download the file"
	case has("<!DOCTYPE"), has("<!doctype"), has("<html"):
		return "a web page, not weights: the download was answered with a page (is a login needed?)"
	}
	return ""
}

// unpickleFile says why a pickled file is not read, and what to do.
const unpickleFile = "which are never loaded because they can run code: " +
	"take the .safetensors file of the same model, or convert it once with Python: " +
	"for a whole model diffusers' StableDiffusionPipeline.from_single_file(IN).save_pretrained(OUT), for a LoRA, " +
	"an embedding or one network safetensors.torch.save_file(torch.load(IN, weights_only=True), OUT)"

func (c *Checkpoint) openSafetensors() error {
	f, err := safetensors.Open(c.path)
	if err != nil {
		return err
	}
	c.Format, c.Metadata, c.tensors, c.release = "safetensors", f.Metadata(), f.Tensors(), f.Close
	c.detect()
	return nil
}

func (c *Checkpoint) openMsgpack() error {
	file, size, err := disk.OpenSize(c.path)
	if err != nil {
		return fmt.Errorf("open msgpack: %w", err)
	}
	tensors, err := parseMsgpack(file, size)
	var t translated
	if err == nil {
		t, err = fromFlax(tensors)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open msgpack %s: %w", c.path, err), file.Close())
	}
	c.Format, c.tensors, c.release = "msgpack", tensors, file.Close
	c.Kind, c.Dialect = KindUnknown, DialectFlax
	if c.addPart("", t) {
		c.Kind = KindComponent
	}
	return nil
}

// addPart takes up a network under its component's name or, where that is "", the name of what it is.
func (c *Checkpoint) addPart(component string, t translated) bool {
	m := &Model{path: c.path, tensors: t.tensors, spelled: t.spelled}
	s, ok := m.Structure()
	if component == "" {
		component = s.Component // "" as well where it is none
	}
	c.parts[component] = m
	if !ok {
		return false
	}
	if family, reasons := s.guess(); c.Family == UnknownFamily || component == UNet {
		c.Family, c.Reasons = family, append(c.Reasons, reasons...)
	}
	c.Inpainting = c.Inpainting || s.Inpainting()
	if s.Component == UNet {
		c.Variant = Variant(s.InChannels)
	}
	return true
}

// detect finds out what the tensors are.
func (c *Checkpoint) detect() {
	has := func(prefixes ...string) bool {
		for key := range c.tensors {
			for _, p := range prefixes {
				if strings.HasPrefix(key, p) {
					return true
				}
			}
		}
		return false
	}
	plain := translated{tensors: c.tensors}
	before, after := unsupported(c.tensors, true), unsupported(c.tensors, false)
	switch {
	case before != "":
		c.Kind = before
	case has("model.diffusion_model."):
		c.Kind, c.Dialect = KindPipeline, DialectLDM
		c.EMA = has("model_ema.")
		c.openPipeline()
		if len(c.Components()) == 1 { // a UNet that kept its place in a whole model
			c.Kind = KindComponent
		}
	case isLoRA(c.tensors) != DialectNone:
		c.Kind, c.Dialect = KindLoRA, isLoRA(c.tensors)
	case after != "":
		c.Kind = after
	case has("control_model."):
		c.Kind, c.Dialect = KindComponent, DialectLDM
		c.addPart(ControlNet, fromLDMControlNet(within(c.tensors, "control_model.")).under("control_model."))
	case has("input_hint_block.", "zero_convs."):
		c.Kind, c.Dialect = KindComponent, DialectLDM
		c.addPart(ControlNet, fromLDMControlNet(c.tensors))
	case has("input_blocks.0."):
		c.Kind, c.Dialect = KindComponent, DialectLDM
		c.addPart(UNet, fromLDMUNet(c.tensors))
	case has("first_stage_model."):
		c.Kind, c.Dialect = KindComponent, DialectLDM
		c.addPart(VAE, fromLDMVAE(within(c.tensors, "first_stage_model.")).under("first_stage_model."))
	case has("encoder.down.", "decoder.up."):
		c.Kind, c.Dialect = KindComponent, DialectLDM
		c.addPart(VAE, fromLDMVAE(c.tensors))
	case c.addPart("", plain):
		c.Kind, c.Dialect = KindComponent, DialectDiffusers
	case isEmbedding(c.tensors) != DialectNone:
		c.Kind, c.Dialect = KindEmbedding, isEmbedding(c.tensors)
	default:
		c.Kind, c.Dialect = KindUnknown, DialectNone
	}
}

// under says that the file has the keys below a prefix.
func (t translated) under(prefix string) translated {
	spelled := make(map[string]string, len(t.tensors))
	for key := range t.tensors {
		in, ok := t.spelled[key]
		if !ok {
			in = key
		}
		spelled[key] = prefix + in
	}
	return translated{tensors: t.tensors, spelled: spelled}
}

// openPipeline takes the networks out of a single-file checkpoint. What else training left there (EMA
// weights, the noise schedule, the step) is passed over.
func (c *Checkpoint) openPipeline() {
	type place struct {
		prefix, component string
		translate         func(map[string]safetensors.Tensor) translated
		family            Family // that this way of naming text encoders tells of
	}
	openCLIP := func(penultimate bool) func(map[string]safetensors.Tensor) translated {
		return func(part map[string]safetensors.Tensor) translated { return fromOpenCLIP(part, penultimate) }
	}
	for _, p := range []place{
		{"model.diffusion_model.", UNet, fromLDMUNet, ""},
		// The first ControlNets were published together with the model that they control.
		{"control_model.", ControlNet, fromLDMControlNet, ""},
		{"first_stage_model.", VAE, fromLDMVAE, ""},
		{"cond_stage_model.transformer.", TextEncoder, fromLDMText, SD1},
		{"cond_stage_model.model.", TextEncoder, openCLIP(true), SD2},
		{"conditioner.embedders.0.transformer.", TextEncoder, fromLDMText, SDXL},
		{"conditioner.embedders.1.model.", TextEncoder2, openCLIP(false), SDXL},
		{"conditioner.embedders.0.model.", TextEncoder2, openCLIP(false), SDXLRefiner},
	} {
		part := within(c.tensors, p.prefix)
		if len(part) == 0 {
			continue
		}
		c.addPart(p.component, p.translate(part).under(p.prefix))
		if p.family != "" {
			c.Family, c.Reasons = p.family, append(c.Reasons, "a text encoder at "+strings.TrimSuffix(p.prefix, "."))
		}
	}
}

// Marks is what empty tensors in a whole model's file say of its noise schedule.
type Marks struct {
	VPrediction bool   // v_pred: it predicts v
	ZeroSNR     bool   // ztsnr: nothing is left of the image at the last timestep
	EDM         string // the key of a model with EDM's noise levels (Karras et al. 2022) instead of betas; else ""
}

// The keys of marks.
const (
	markVPrediction = "v_pred"
	markZeroSNR     = "ztsnr"
)

var marksOfEDM = []string{"edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min"}

// Marks finds the marks in the file.
func (c *Checkpoint) Marks() Marks {
	var m Marks
	_, m.VPrediction = c.tensors[markVPrediction]
	_, m.ZeroSNR = c.tensors[markZeroSNR]
	for _, key := range marksOfEDM {
		if _, ok := c.tensors[key]; ok && m.EDM == "" {
			m.EDM = key
		}
	}
	return m
}

// entries are the tensors that mark a file.
func (m Marks) entries() []safetensors.Entry {
	var all []safetensors.Entry
	add := func(key string) { all = append(all, entryOf(key, safetensors.RawTensor("F32", []int{0}, nil), "")) }
	if m.VPrediction {
		add(markVPrediction)
	}
	if m.ZeroSNR {
		add(markZeroSNR)
	}
	return all
}

// Component returns one network of the file: "unet", "vae", "text_encoder", "text_encoder_2" or
// "controlnet". It is valid until the checkpoint is closed.
func (c *Checkpoint) Component(name string) (*Model, bool) {
	m, ok := c.parts[name]
	return m, ok && name != ""
}

// Components lists the networks in the file.
func (c *Checkpoint) Components() []string {
	var all []string
	for _, name := range []string{UNet, ControlNet, VAE, TextEncoder, TextEncoder2} {
		if _, ok := c.parts[name]; ok {
			all = append(all, name)
		}
	}
	return all
}

// Keys lists the tensors' keys as the file spells them, in alphabetical order.
func (c *Checkpoint) Keys() []string { return slices.Sorted(maps.Keys(c.tensors)) }

// Tensor finds a tensor by the file's key, with the shape that the file gives it.
func (c *Checkpoint) Tensor(key string) (safetensors.Tensor, bool) {
	t, ok := c.tensors[key]
	return t, ok
}

// Path is the name that the file was opened by.
func (c *Checkpoint) Path() string { return c.path }

// SayEMA tells log in one line which of EMA's and the plain weights are taken, where the file has both.
func (c *Checkpoint) SayEMA(log io.Writer) {
	if c.EMA && log != nil {
		fmt.Fprintf(log, "%s holds the weights of EMA (model_ema) beside the plain ones (model.diffusion_model), "+
			"which are taken, as diffusers does\n", c.path)
	}
}

// only is the one network of the file. A file of no known kind is one with its own keys.
func (c *Checkpoint) only() (*Model, error) {
	switch all := c.Components(); {
	case len(all) == 1:
		return c.parts[all[0]], nil
	case len(all) > 1:
		return nil, fmt.Errorf("open model %s: a whole model (%s), want a file with one network",
			c.path, strings.Join(all, ", "))
	case c.parts[""] == nil && strings.Contains(c.What(), "not supported"):
		return nil, fmt.Errorf("open model %s: %s", c.path, c.What())
	case c.parts[""] != nil:
		return c.parts[""], nil
	}
	return &Model{path: c.path, tensors: c.tensors}, nil
}

// Close closes the file. What Load returned stays valid.
func (c *Checkpoint) Close() error {
	release := c.release
	c.tensors, c.parts, c.release = nil, nil, nil
	if release == nil {
		return nil
	}
	return release()
}
