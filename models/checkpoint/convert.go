package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"limner/internal/disk"
	"limner/internal/plaintext"
)

// Target is a format that Convert writes.
type Target string

const (
	ToDiffusers     Target = "diffusers"      // a folder
	ToSingleFile    Target = "single-file"    // one file in the original naming, as A1111 reads it
	ToLoRADiffusers Target = "lora-diffusers" // a LoRA file in the naming of …
	ToLoRAPEFT      Target = "lora-peft"
	ToLoRAKohya     Target = "lora-kohya"
)

// Conversion says what Convert reads and writes.
type Conversion struct {
	In     string // a file, or the folder of a component or of a whole model
	Out    string // a file or, of ToDiffusers, a folder that is new or empty
	To     Target
	DType  string    // F32, F16 or BF16; "" keeps each tensor's own
	Config string    // a folder in diffusers' layout whose configs and tokenizers go with the weights of a single file
	Log    io.Writer // hears what a person may want to know, a line each; nil: silence
}

// Run converts, one tensor at a time. Out appears when it is whole, or not at all.
func (c Conversion) Run() error {
	switch c.To {
	case ToDiffusers:
		return c.toDiffusers()
	case ToSingleFile:
		return c.toSingleFile()
	case ToLoRADiffusers:
		return c.toLoRA(DialectDiffusers)
	case ToLoRAPEFT:
		return c.toLoRA(DialectPEFT)
	case ToLoRAKohya:
		return c.toLoRA(DialectKohya)
	}
	return fmt.Errorf("convert to %q: want %s, %s, %s, %s or %s",
		c.To, ToDiffusers, ToSingleFile, ToLoRADiffusers, ToLoRAPEFT, ToLoRAKohya)
}

func (c Conversion) toLoRA(dialect Dialect) error {
	l, err := OpenLoRA(c.In)
	if err != nil {
		return err
	}
	if len(l.Embeddings) > 0 && dialect != DialectKohya && c.Log != nil {
		var tokens []string
		for _, e := range l.Embeddings {
			tokens = append(tokens, e.Token)
		}
		fmt.Fprintf(c.Log, "%s: its textual inversions (%s) are left out: only the naming of %s has a place for them\n",
			c.In, strings.Join(tokens, ", "), DialectKohya)
	}
	return errors.Join(l.Save(c.Out, dialect, c.DType), l.Close())
}

// source is what is converted: networks by the names of their folders. A single network has its own name
// and, where it was a folder, the folder.
type source struct {
	networks map[string]*Model
	single   string // the one component's name; "" of a whole model
	folder   string // "" of a file
	marks    Marks  // of a whole model
	close    func() error
}

func openSource(path string, log io.Writer) (*source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	if !info.IsDir() {
		return openSourceFile(path, log)
	}
	s := &source{networks: map[string]*Model{}, folder: path}
	s.close = func() error {
		var all []error
		for _, m := range s.networks {
			all = append(all, m.Close())
		}
		return errors.Join(all...)
	}
	if _, err := os.Stat(filepath.Join(path, "model_index.json")); err != nil {
		m, err := OpenModel(path)
		if err != nil {
			return nil, err
		}
		st, ok := m.Structure()
		if s.single = st.Component; !ok {
			s.single = filepath.Base(path)
		}
		s.networks[s.single] = m
		return s, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	for _, e := range entries {
		if sub := filepath.Join(path, e.Name()); hasWeights(sub) {
			m, err := OpenModel(sub)
			if err != nil {
				return nil, errors.Join(err, s.close())
			}
			s.networks[e.Name()] = m
		}
	}
	if s.marks, err = folderMarks(path); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// folderMarks are the marks that a single file of a model folder needs.
func folderMarks(dir string) (Marks, error) {
	var c struct {
		PredictionType      string `json:"prediction_type"`
		RescaleBetasZeroSNR bool   `json:"rescale_betas_zero_snr"`
	}
	err := ReadConfig(filepath.Join(dir, "scheduler", "scheduler_config.json"), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return Marks{}, nil
	}
	return Marks{VPrediction: c.PredictionType == "v_prediction", ZeroSNR: c.RescaleBetasZeroSNR}, err
}

func openSourceFile(path string, log io.Writer) (*source, error) {
	c, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	c.SayEMA(log)
	names := c.Components()
	if len(names) == 0 {
		return nil, errors.Join(fmt.Errorf("convert %s: %s is no network: a LoRA is converted to %s, %s or %s",
			path, c.What(), ToLoRADiffusers, ToLoRAPEFT, ToLoRAKohya), c.Close())
	}
	s := &source{networks: map[string]*Model{}, close: c.Close, marks: c.Marks()}
	for _, name := range names {
		s.networks[name], _ = c.Component(name)
	}
	if c.Kind != KindPipeline {
		s.single = names[0]
	}
	return s, nil
}

func (c Conversion) toSingleFile() error {
	s, err := openSource(c.In, c.Log)
	if err != nil {
		return err
	}
	switch s.single {
	case "":
		err = SaveSingleFile(c.Out, s.networks, s.marks, c.DType)
	case ControlNet:
		err = SaveControlNetFile(c.Out, s.networks[ControlNet], c.DType)
	case VAE:
		err = SaveVAEFile(c.Out, s.networks[VAE], c.DType)
	default:
		err = fmt.Errorf("convert %s: a %s alone has no single-file form: a whole model, a ControlNet and a VAE have",
			c.In, s.single)
	}
	return errors.Join(err, s.close())
}

func (c Conversion) toDiffusers() error {
	s, err := openSource(c.In, c.Log)
	if err != nil {
		return err
	}
	return errors.Join(c.writeFolder(s), s.close())
}

// writeFolder writes the source's folder.
func (c Conversion) writeFolder(s *source) error {
	config := s.folder
	if c.Config != "" {
		config = c.Config
	}
	if config == "" {
		return fmt.Errorf("convert %s: weights do not hold all of a config: "+
			"name a folder in diffusers' layout with --config", c.In)
	}
	return WriteFolder(c.Out, func(dir string) error { return c.fill(dir, config, s) })
}

// WriteFolder has fill write the folder out, see [disk.PublishFolder], which must be new or empty.
func WriteFolder(out string, fill func(dir string) error) error {
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		return fmt.Errorf("convert: %s is not empty: name another folder, or empty it", out)
	}
	return disk.PublishFolder(out, fill)
}

// fill writes configs and weights into a new folder.
func (c Conversion) fill(dir, config string, s *source) error {
	if s.single != "" {
		if _, err := os.Stat(filepath.Join(config, "model_index.json")); err == nil {
			config = filepath.Join(config, s.single)
		}
		if err := copyConfig(filepath.Join(config, "config.json"), filepath.Join(dir, "config.json")); err != nil {
			return err
		}
		if err := s.networks[s.single].checkConfig(filepath.Join(dir, "config.json")); err != nil {
			return err
		}
		return SaveModelFile(filepath.Join(dir, weightsName(s.single)), s.networks[s.single], c.DType)
	}
	if err := copyConfigs(config, dir, s.networks); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(s.networks))
	var errs []error
	for _, name := range names {
		errs = append(errs, s.networks[name].checkConfig(filepath.Join(dir, name, "config.json")))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, name := range names {
		if err := SaveModelFile(filepath.Join(dir, name, weightsName(name)), s.networks[name], c.DType); err != nil {
			return err
		}
	}
	return nil
}

// checkConfig compares a config with what the weights tell of it, so that weights never get the config of
// another network.
func (m *Model) checkConfig(path string) error {
	s, ok := m.Structure()
	if !ok {
		return nil
	}
	var c struct {
		InChannels        *int  `json:"in_channels"`
		BlockOutChannels  []int `json:"block_out_channels"`
		LayersPerBlock    *int  `json:"layers_per_block"`
		CrossAttentionDim *int  `json:"cross_attention_dim"`
		LatentChannels    *int  `json:"latent_channels"`
		HiddenSize        *int  `json:"hidden_size"`
		NumHiddenLayers   *int  `json:"num_hidden_layers"`
		VocabSize         *int  `json:"vocab_size"`
	}
	if err := ReadConfig(path, &c); err != nil {
		return err
	}
	var errs []error
	for _, f := range []struct {
		name    string
		config  *int
		weights int
	}{
		{"in_channels", c.InChannels, s.InChannels}, {"layers_per_block", c.LayersPerBlock, s.LayersPerBlock},
		{"cross_attention_dim", c.CrossAttentionDim, s.CrossAttentionDim},
		{"latent_channels", c.LatentChannels, s.LatentChannels}, {"hidden_size", c.HiddenSize, s.HiddenSize},
		{"num_hidden_layers", c.NumHiddenLayers, s.NumHiddenLayers}, {"vocab_size", c.VocabSize, s.VocabSize},
	} {
		if f.config != nil && *f.config != f.weights {
			errs = append(errs, fmt.Errorf("%s: the weights of %s have %d, the config %d",
				f.name, m.path, f.weights, *f.config))
		}
	}
	if c.BlockOutChannels != nil && !slices.Equal(c.BlockOutChannels, s.BlockOutChannels) {
		errs = append(errs, fmt.Errorf("block_out_channels: the weights of %s have %v, the config %v",
			m.path, s.BlockOutChannels, c.BlockOutChannels))
	}
	return errors.Join(errs...)
}

// weightsName is what diffusers and transformers call the weights of a component.
func weightsName(component string) string {
	switch component {
	case UNet, VAE, ControlNet:
		return "diffusion_pytorch_model.safetensors"
	}
	return "model.safetensors"
}

// weightFiles matches the files of a folder that hold weights or lists of them.
var weightFiles = regexp.MustCompile(`\.(safetensors|msgpack|bin|ckpt|pth?|onnx|h5)(\.index(\.\w+)?\.json)?$`)

// hasWeights says whether a folder holds weights of any kind.
func hasWeights(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return weightFiles.MatchString(e.Name())
	})
}

// copyConfigs copies what a model's folder holds beside weights. Networks that there are no weights for, like a
// safety checker, are left out, and the index says so.
func copyConfigs(from, to string, networks map[string]*Model) error {
	raw, err := plaintext.ReadFile(filepath.Join(from, "model_index.json"), maxConfigBytes)
	if err != nil {
		return fmt.Errorf("convert: %s is no model folder: %w", from, err)
	}
	index := map[string]any{}
	if err := plaintext.JSON(raw, &index); err != nil {
		return fmt.Errorf("load %s: %w", filepath.Join(from, "model_index.json"), err)
	}
	for name, value := range index {
		pair, ok := value.([]any)
		if !ok || len(pair) != 2 || pair[0] == nil {
			continue
		}
		class, _ := pair[1].(string)
		if networks[name] == nil && !withoutWeights(class) {
			index[name] = []any{nil, nil}
			if _, ok := index["requires_safety_checker"]; ok && name == "safety_checker" {
				index["requires_safety_checker"] = false
			}
			continue
		}
		pair[1] = strings.TrimPrefix(class, "Flax")
		if err := copyFolder(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	for name := range networks { // those that the index does not know, like a ControlNet beside a model
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			if err := copyFolder(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				return err
			}
		}
	}
	if class, ok := index["_class_name"].(string); ok {
		index["_class_name"] = strings.TrimPrefix(class, "Flax")
	}
	return WriteJSON(filepath.Join(to, "model_index.json"), index)
}

// withoutWeights says whether a class of a model's index is none of a network.
func withoutWeights(class string) bool {
	for _, kind := range []string{
		"Tokenizer", "TokenizerFast", "Scheduler", "Extractor", "Processor", "ProcessorFast",
	} {
		if strings.HasSuffix(class, kind) {
			return true
		}
	}
	return false
}

// copyFolder copies the files of a folder that are no weights.
func copyFolder(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(from, e.Name())) // the Hub's cache holds links
		if err != nil {
			return fmt.Errorf("convert: %w", err)
		}
		if info.Mode().IsRegular() && !weightFiles.MatchString(e.Name()) {
			if err := copyConfig(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// flaxClass matches a class of Flax in a config of diffusers or transformers, whose weights are PyTorch's after
// conversion.
var flaxClass = regexp.MustCompile(`("_class_name"\s*:\s*"|"architectures"\s*:\s*\[\s*")Flax`)

func copyConfig(from, to string) error {
	raw, err := plaintext.ReadFile(from, maxConfigBytes)
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	if err := disk.WriteFile(to, flaxClass.ReplaceAll(raw, []byte("$1")), 0o644); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	return nil
}
