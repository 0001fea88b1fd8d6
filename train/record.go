package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"limner/data"
	"limner/internal/refusal"
	"limner/models/nn"
	"limner/train/folder"
	"limner/train/loss"
)

// record is what a run is made of, resolved: recipe.json of its checkpoints and run.json of its output folder.
type record struct {
	Options   Options        `json:"options"`
	Recipe    settings       `json:"recipe"`
	Networks  map[string]any `json:"networks"` // their configs, and the noise schedule's
	Objective string         `json:"objective"`
	UseEMA    bool           `json:"use_ema"`
	Rows      int            `json:"dataset_rows"`
	Dataset   string         `json:"dataset"` // its fingerprint
	data.Content
	Frozen    string `json:"frozen_weights"`
	Devices   int    `json:"num_devices"`
	PerDevice int    `json:"per_device_batch_size"`
	Plugin    string `json:"plugin"`
	ByNeed    bool   `json:"gradient_checkpointing_by_need"` // the step did not fit the devices without; it stays so when the run goes on
}

// settings are the fields of Recipe that tell runs apart, under the names of flags.
type settings struct {
	Model             string       `json:"pretrained_model_name_or_path"`
	ControlNet        string       `json:"controlnet_model_name_or_path"`
	Data              []string     `json:"train_data_dir"`
	ImageColumn       string       `json:"image_column"`
	ConditionColumn   string       `json:"conditioning_image_column"`
	CaptionColumn     string       `json:"caption_column"`
	BufferBytes       int64        `json:"shuffle_buffer_bytes"`
	Resolution        int          `json:"resolution"`
	CacheLatents      bool         `json:"cache_latents"`
	ProportionEmpty   float64      `json:"proportion_empty_prompts"`
	FromScratch       bool         `json:"from_scratch"`
	EmbeddingChannels []int        `json:"conditioning_embedding_out_channels"`
	TrainTextEncoder  bool         `json:"train_text_encoder"`
	KLWeight          float64      `json:"kl_weight"`
	DecoderOnly       bool         `json:"train_decoder_only"`
	Loss              loss.Loss    `json:"loss"`
	SDUnlocked        bool         `json:"sd_unlocked"`
	OnlyMidControl    bool         `json:"only_mid_control"`
	LoRA              *loss.LoRA   `json:"lora"`
	LoRAWeights       string       `json:"network_weights"`
	Tokens            []loss.Token `json:"placeholder_token"`
	Property          string       `json:"learnable_property"`
	InstancePrompt    string       `json:"instance_prompt"`
	Prior             *Prior       `json:"prior"`
	MaskColumn        string       `json:"mask_column"`
	RandomCrop        bool         `json:"random_crop"`
	RandomFlip        bool         `json:"random_flip"`
	Background        string       `json:"background"`
	Compute           string       `json:"compute_dtype"`
}

func (r Recipe) settings() settings {
	return settings{
		Model: r.Model, ControlNet: r.ControlNet, Data: r.Data,
		ImageColumn: r.Columns.ImageColumn, ConditionColumn: r.Columns.ConditioningImageColumn, CaptionColumn: r.Columns.CaptionColumn,
		BufferBytes: r.Columns.BufferBytes, Resolution: r.Resolution, CacheLatents: r.CacheLatents, ProportionEmpty: r.ProportionEmpty,
		FromScratch: r.FromScratch, EmbeddingChannels: r.EmbeddingChannels, TrainTextEncoder: r.TrainTextEncoder, KLWeight: r.KLWeight,
		DecoderOnly: r.DecoderOnly, SDUnlocked: r.SDUnlocked, OnlyMidControl: r.OnlyMidControl, LoRA: r.LoRA, LoRAWeights: r.LoRAWeights, Tokens: r.Tokens,
		Property: r.Property, InstancePrompt: r.InstancePrompt, Prior: r.Prior, MaskColumn: r.Columns.MaskColumn,
		RandomCrop: r.Columns.RandomCrop, RandomFlip: r.Columns.RandomFlip, Background: r.Columns.Background, Loss: r.Loss,
		Compute: r.Compute.String(),
	}
}

// mayChange are the fields that may change when a run goes on: none of them has a say in the bits of its result. Where the frozen
// weights and the rows come from does not matter either, since what they are is compared.
var mayChange = []string{
	"checkpointing_steps", "checkpoints_total_limit", "max_train_steps", "max_train_images", "num_train_epochs", "per_device_batch_size",
	"pretrained_model_name_or_path", "controlnet_model_name_or_path", "train_data_dir", "class_data_dir", "from_scratch",
	"conditioning_embedding_out_channels", "network_weights", "max_device_memory", "gradient_checkpointing_by_need",
}

// mayReorder are the fields that may change too, but with them the order of the sums on the devices, and so the last bits.
var mayReorder = []string{"num_devices", "plugin", "fsdp", "gradient_checkpointing"}

// The fields of data.Content.
const (
	contentName = "dataset_content"
	stampsName  = "dataset_files"
)

// record resolves what the run is made of, wherever its folder is and however often it was stopped. o.Schedule.Steps is set.
func (r *Run) record(o Options) (record, error) {
	o.OutputDir, o.ResumeFromCheckpoint = "", ""
	dataset, err := r.Dataset.Fingerprint()
	if err != nil {
		return record{}, err
	}
	content, err := r.Dataset.Content()
	if err != nil {
		return record{}, err
	}
	frozen, err := fingerprint(r.Objective.FrozenTree(), r.Weights)
	if err != nil {
		return record{}, err
	}
	networks := map[string]any{}
	maps.Copy(networks, r.Networks)
	for _, c := range r.Components {
		networks[c.Name] = c.Config
	}
	return record{
		Options: o, Recipe: r.Recipe.settings(), Networks: networks, Objective: r.Objective.Name, UseEMA: o.EMA != nil,
		Rows: r.Dataset.Len(), Dataset: dataset, Content: content, Frozen: frozen,
		Devices: r.Backend.Devices(), PerDevice: o.Batch / r.Backend.Devices(), Plugin: filepath.Base(r.Backend.Plugin()),
	}, nil
}

// fingerprint tells weights from others by some elements of each, without the seconds that reading all of them takes.
func fingerprint(tree nn.Tree, weights Weights) (string, error) {
	elements := map[string][]float32{}
	err := weights.Sample(tree, 4, func(spec nn.Spec, some []float32) error {
		elements[spec.Key] = some
		return nil
	})
	h := sha256.New()
	for _, spec := range tree {
		fmt.Fprintln(h, spec)
		err = errors.Join(err, binary.Write(h, binary.LittleEndian, elements[spec.Key]))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), err
}

// compare says why a run of record now cannot go on from a checkpoint whose recipe.json is raw, and names the fields
// that change the last bits only.
func compare(raw []byte, now record) (notes []string, err error) {
	was, err := flatten(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder.RecordName, err)
	}
	raw, err = json.Marshal(now)
	if err != nil {
		return nil, err
	}
	is, err := flatten(raw)
	if err != nil {
		return nil, err
	}
	if !now.Options.Schedule.DependsOnSteps() {
		delete(was, "num_training_steps")
		delete(is, "num_training_steps")
	}
	if was["use_ema"] != is["use_ema"] {
		for _, fields := range []map[string]string{was, is} {
			maps.DeleteFunc(fields, func(name, _ string) bool { return name == "ema" || strings.HasPrefix(name, "ema.") })
		}
	}
	var errs []error
	both := maps.Clone(was)
	maps.Copy(both, is)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		if same(was[name], is[name]) || slices.Contains(mayChange, name) {
			continue
		}
		line := fmt.Sprintf("%s: checkpoint has %s, the run has %s", name, orNothing(was[name]), orNothing(is[name]))
		switch {
		case name == contentName && was[name] == "":
			notes = append(notes, "the checkpoint is of a version that did not look into pictures: those of the dataset are taken to be the same")
			continue
		case name == stampsName:
			if was[name] != "" && is[contentName] == was[contentName] {
				notes = append(notes, "files of the dataset were copied or written since: samples of them are the same, not every byte was compared")
			}
			continue
		}
		if slices.Contains(mayReorder, name) {
			notes = append(notes, line+": sums come in another order, so from here on the last bits differ from those of a run that was not changed")
			continue
		}
		if name == "num_training_steps" {
			line += " (max_train_steps; " + now.Options.Schedule.Name + " depends on it)"
		}
		if name == contentName {
			line += " (pictures or rows were replaced by others of the same sizes)"
		}
		errs = append(errs, errors.New(line))
	}
	if len(errs) > 0 {
		return nil, refusal.Errorf("the run is not the one that it would go on with:\n%w\nset them back to go on, or start anew with another --output_dir", errors.Join(errs...))
	}
	return notes, nil
}

// same also holds of a field that one of them does not have, as versions differ, and that says nothing in the other.
func same(was, is string) bool {
	empty := []string{"", "null", "false", "0", `""`, "[]"}
	return was == is || was == "" && slices.Contains(empty, is) || is == "" && slices.Contains(empty, was)
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// flatten gives the JSON of every field by its name, which within options and recipe is the flag's.
func flatten(raw []byte) (map[string]string, error) {
	fields := map[string]string{}
	var walk func(name string, raw json.RawMessage) error
	walk = func(name string, raw json.RawMessage) error {
		if len(raw) == 0 || raw[0] != '{' {
			compact, err := json.Marshal(json.RawMessage(raw))
			fields[name] = string(compact)
			return err
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			return err
		}
		for key, value := range object {
			path := key
			switch name {
			case "", "options", "recipe", "schedule", "optimizer", "lora", "prior", "loss":
			default:
				path = name + "." + key
			}
			if err := walk(path, value); err != nil {
				return err
			}
		}
		return nil
	}
	return fields, walk("", raw)
}
