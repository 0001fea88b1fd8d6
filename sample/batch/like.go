package batch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"limner/data/imaging"
	"limner/internal/plaintext"
)

// RecordedSettings are all that an image's record may set: texts, numbers and choices that say how it was sampled. A
// picture comes from anywhere, so what is loaded, opened, written or downloaded, and on how many devices, the command
// line alone says.
var RecordedSettings = []string{
	"prompt", "negative_prompt", "prompt_style", "truncate_prompts", "clip_skip", "height", "width", "seed",
	"scheduler", "num_inference_steps", "guidance_scale", "guidance_rescale", "eta", "strength", "preprocess",
	"lora_scale", "controlnet_conditioning_scale", "control_guidance_start", "control_guidance_end", "guess_mode",
	"background", "original_size", "crops_coords_top_left", "target_size", "prediction_type", "dtype",
	"enable_vae_slicing", "enable_vae_tiling", "batch_row", "batch_size",
}

// What a record may hold at most. The limner sample of any version writes far less, and a picture comes from anywhere.
const (
	mostRecordText = 1 << 20 // bytes
	mostEntries    = 1000    // of each list and object
	mostFiles      = 100     // that it names
)

// Record is what is taken from an image's record.
type Record struct {
	Settings map[string]json.RawMessage // by the names of RecordedSettings
	Files    []UsedFile                 // that it was made with
	Devices  int
	Left     []string // names of other flags that it would set
}

// ReadRecord reads what may be taken from the record of an image of limner sample.
func ReadRecord(path string) (Record, error) {
	file, err := imaging.ReadFile(path)
	if err != nil {
		return Record{}, fmt.Errorf("like: %w", err)
	}
	texts, err := imaging.Texts(file)
	if err != nil {
		return Record{}, fmt.Errorf("like: %s: %w", path, err)
	}
	for _, text := range texts {
		if text.Key != imaging.TextLimner {
			continue
		}
		record, err := parseRecord([]byte(text.Value))
		if err != nil {
			return record, fmt.Errorf("like: %s: its record cannot be read: %w", path, err)
		}
		return record, nil
	}
	return Record{}, fmt.Errorf("like: %s carries no record of limner sample", path)
}

// parseRecord takes from a record what may be taken. Of older versions, whose records hold paths and the SHA-256 of
// some files by path, too.
func parseRecord(raw []byte) (Record, error) {
	if err := checkRecordSize(raw); err != nil {
		return Record{}, err
	}
	var whole struct {
		Files  []UsedFile                 `json:"files"`
		Inputs map[string]string          `json:"inputs"` // of older versions
		Sample map[string]json.RawMessage `json:"sample"`
	}
	if err := plaintext.JSON(raw, &whole); err != nil {
		return Record{}, err
	}
	r := Record{Settings: map[string]json.RawMessage{}}
	for _, name := range slices.Sorted(maps.Keys(whole.Sample)) {
		value := whole.Sample[name]
		switch {
		case string(value) == "null":
		case slices.Contains(RecordedSettings, name):
			r.Settings[name] = value
		case name == "num_devices":
			if err := plaintext.JSON(value, &r.Devices); err != nil {
				return r, fmt.Errorf("%s: %w", name, err)
			}
		case slices.Contains(fileFlags, name), name == "revision":
		default:
			r.Left = append(r.Left, name)
		}
	}
	r.Files = whole.Files
	for _, file := range olderFiles(whole.Sample, whole.Inputs) {
		if len(withFlag(whole.Files, file.Flag)) == 0 {
			r.Files = append(r.Files, file)
		}
	}
	if n := len(r.Files); n > mostFiles {
		return r, fmt.Errorf("it names %d files, more than the limit of %d", n, mostFiles)
	}
	r.Files = slices.DeleteFunc(r.Files, func(u UsedFile) bool { return !slices.Contains(fileFlags, u.Flag) })
	return r, nil
}

// checkRecordSize reads a record token by token, and fails at the first list or object that is too long, before any
// value is kept.
func checkRecordSize(raw []byte) error {
	if n := len(raw); n > mostRecordText {
		return fmt.Errorf("it has %d bytes, more than the limit of %d", n, mostRecordText)
	}
	tokens := json.NewDecoder(bytes.NewReader(raw))
	left := []int{mostEntries} // tokens that may follow in each list and object that is open
	for {
		token, err := tokens.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		last := len(left) - 1
		if token == json.Delim(']') || token == json.Delim('}') {
			left = left[:last]
			continue
		}
		if left[last]--; left[last] < 0 {
			return fmt.Errorf("a list or object has more than the limit of %d entries at byte %d",
				mostEntries, tokens.InputOffset())
		}
		switch token {
		case json.Delim('['):
			left = append(left, mostEntries)
		case json.Delim('{'):
			left = append(left, 2*mostEntries) // names and values
		}
	}
}

// olderFiles are the files of a record that has them as flags.
func olderFiles(flags map[string]json.RawMessage, sums map[string]string) []UsedFile {
	var files []UsedFile
	for _, flag := range fileFlags {
		var one string
		var all []string
		if json.Unmarshal(flags[flag], &one) == nil && one != "" {
			all = []string{one}
		} else if json.Unmarshal(flags[flag], &all) != nil {
			continue
		}
		for _, value := range all {
			files = append(files, UsedFile{Flag: flag, Name: value, SHA256: sums[value]})
		}
	}
	return files
}
