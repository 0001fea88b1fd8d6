package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"limner/data"
	"limner/sample"
)

// imageRecord is how an image was made, as its file and sample.json have it.
type imageRecord struct {
	Version string            `json:"version"`
	Backend string            `json:"backend"`
	Inputs  map[string]string `json:"inputs,omitempty"` // SHA-256 of the files that the image was made of, by path
	Sample  struct {
		drawing
		NumDevices int `json:"num_devices"`
	} `json:"sample"` // flags of limner sample
}

// record says how a job was made.
func (a *artist) record(j *job) (imageRecord, error) {
	r := imageRecord{Version: version(), Backend: a.cmd.Backend, Inputs: map[string]string{}}
	r.Sample.drawing, r.Sample.NumDevices = j.drawing, a.backend.Devices()
	r.Sample.Scheduler = sample.SchedulerName(j.Scheduler, a.model.Pipeline.Noise)
	paths := append(append(append([]string{}, j.Image...), j.Mask...), j.ControlImage...)
	if j.Latents != "" {
		paths = append(paths, j.Latents)
	}
	for _, path := range paths {
		sum, err := fileSum(path)
		if err != nil {
			return r, err
		}
		r.Inputs[path] = sum
	}
	return r, nil
}

// fileSum is the SHA-256 of a file.
func fileSum(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("hash input: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// texts are what an image file says of itself.
func (a *artist) texts(j *job, r imageRecord) ([]data.Text, error) {
	raw, err := plainJSON(r)
	if err != nil {
		return nil, err
	}
	return []data.Text{{Key: data.TextParameters, Value: a.parameters(j)}, {Key: data.TextLimner, Value: raw}}, nil
}

// plainJSON is JSON on one line, in ASCII, so that every format can carry it.
func plainJSON(v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("describe image: %w", err)
	}
	var b strings.Builder
	for _, r := range string(raw) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String(), nil
}

// parameters is the text that A1111's web UI writes into images, which it and Civitai read.
func (a *artist) parameters(j *job) string {
	lines := []string{j.Prompt[0]}
	if j.NegativePrompt != nil && *j.NegativePrompt != "" {
		lines = append(lines, "Negative prompt: "+*j.NegativePrompt)
	}
	var fields []string
	field := func(name string, value any) {
		text := fmt.Sprint(value)
		if strings.ContainsAny(text, ",:\n") {
			text = fmt.Sprintf("%q", text)
		}
		fields = append(fields, name+": "+text)
	}
	field("Steps", j.NumInferenceSteps)
	field("Sampler", samplerTitle(sample.SchedulerName(j.Scheduler, a.model.Pipeline.Noise)))
	field("CFG scale", j.GuidanceScale)
	field("Seed", j.Seed)
	field("Size", fmt.Sprintf("%dx%d", j.Width, j.Height))
	field("Model", strings.TrimSuffix(filepath.Base(j.Model), filepath.Ext(j.Model)))
	if j.Image != nil {
		field("Denoising strength", j.strength())
	}
	if j.ClipSkip > 0 {
		field("Clip skip", j.ClipSkip+1) // A1111 counts from the last layer
	}
	if j.Eta > 0 {
		field("Eta", j.Eta)
	}
	r := j.request()
	for i, net := range j.ControlNets {
		text := "Model: " + filepath.Base(net)
		if r.ControlNetConditioningScale != nil {
			text += fmt.Sprintf(", Weight: %g", r.ControlNetConditioningScale[i])
		}
		field(fmt.Sprintf("ControlNet %d", i), text)
	}
	for i, name := range j.LoRA {
		scale := 1.0
		if j.LoRAScale != nil {
			scale = j.LoRAScale[i]
		}
		field(fmt.Sprintf("LoRA %d", i), fmt.Sprintf("%s: %g", filepath.Base(name), scale))
	}
	field("Version", "limner "+version())
	return strings.Join(append(lines, strings.Join(fields, ", ")), "\n")
}

// samplerTitle is A1111's name of a scheduler.
func samplerTitle(name string) string {
	name, karras := strings.CutSuffix(name, "_karras")
	title, ok := map[string]string{
		"ddim": "DDIM", "ddpm": "DDPM", "pndm": "PLMS", "lms": "LMS", "euler": "Euler", "euler_a": "Euler a", "heun": "Heun", "unipc": "UniPC",
		"lcm": "LCM", "dpm++": "DPM++ 2M", "dpm++_2m": "DPM++ 2M", "dpm++_3m": "DPM++ 3M", "dpm++_sde": "DPM++ SDE", "dpm++_2m_sde": "DPM++ 2M SDE",
		"dpm++_3m_sde": "DPM++ 3M SDE",
	}[name]
	if !ok {
		title = name
	}
	if karras {
		title += " Karras"
	}
	return title
}

// version is the module's.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "(unknown)"
}

// likeFile is an image of limner sample, whose record sets the flags that the command line does not.
type likeFile string

// BeforeResolve reads the image's record.
func (likeFile) BeforeResolve(command *kong.Context, trace *kong.Path) error {
	path := string(command.FlagValue(trace.Flag).(likeFile))
	record, raw, err := readRecord(path)
	if err != nil {
		return err
	}
	for _, file := range sortedKeys(record.Inputs) {
		if sum, err := fileSum(file); err != nil {
			return fmt.Errorf("%s was made of a file that is not here: %w", path, err)
		} else if sum != record.Inputs[file] {
			return fmt.Errorf("%s was made of another %s: its SHA-256 was %s and is %s", path, file, record.Inputs[file], sum)
		}
	}
	r, err := readFields(path, raw, command)
	if err != nil {
		return err
	}
	command.AddResolver(r)
	return nil
}

// readRecord reads what an image says of itself, and the JSON of its flags.
func readRecord(path string) (imageRecord, []byte, error) {
	var record imageRecord
	file, err := os.ReadFile(path)
	if err != nil {
		return record, nil, fmt.Errorf("like: %w", err)
	}
	texts, err := data.Texts(file)
	if err != nil {
		return record, nil, fmt.Errorf("like: %s: %w", path, err)
	}
	for _, text := range texts {
		if text.Key != data.TextLimner {
			continue
		}
		var parts struct{ Sample json.RawMessage }
		if err := json.Unmarshal([]byte(text.Value), &record); err != nil {
			return record, nil, fmt.Errorf("like: %s: its record cannot be read: %w", path, err)
		}
		err := json.Unmarshal([]byte(text.Value), &parts)
		return record, parts.Sample, err
	}
	return record, nil, fmt.Errorf("like: %s carries no record of limner sample", path)
}
