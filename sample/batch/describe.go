package batch

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"limner/data/imaging"
	"limner/sample/schedule"
)

// recordOf says how a job was made.
func (l *List) recordOf(j *job) ImageRecord {
	r := ImageRecord{Version: l.host.Version, Backend: baseName(l.host.Backend), Files: slices.Concat(l.files, j.files)}
	r.Sample.Settings, r.Sample.NumDevices = j.Settings, l.backend.Devices()
	r.Sample.Scheduler = schedule.Name(j.Scheduler, l.model.Pipeline.Noise)
	return r
}

// texts are what an image file says of itself.
func (l *List) texts(j *job, r ImageRecord) ([]imaging.Text, error) {
	raw, err := r.Text()
	if err != nil {
		return nil, err
	}
	return []imaging.Text{{Key: imaging.TextParameters, Value: l.parameters(j)}, {Key: imaging.TextLimner, Value: raw}},
		nil
}

// parameters is the text that A1111's web UI writes into images, which it and Civitai read.
func (l *List) parameters(j *job) string {
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
	field("Sampler", samplerTitle(schedule.Name(j.Scheduler, l.model.Pipeline.Noise)))
	field("CFG scale", j.GuidanceScale)
	field("Seed", j.Seed)
	field("Size", fmt.Sprintf("%dx%d", j.Width, j.Height))
	field("Model", strings.TrimSuffix(baseName(j.Model), filepath.Ext(j.Model)))
	if j.Image != nil {
		field("Denoising strength", j.strength())
	}
	if j.ClipSkip > 0 {
		field("Clip skip", j.ClipSkip+1) // A1111 counts from the last layer
	}
	if j.Eta > 0 {
		field("Eta", j.Eta)
	}
	r := j.Request()
	for i, net := range j.ControlNets {
		text := "Model: " + baseName(net)
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
		field(fmt.Sprintf("LoRA %d", i), fmt.Sprintf("%s: %g", baseName(name), scale))
	}
	field("Version", "limner "+l.host.Version)
	return strings.Join(append(lines, strings.Join(fields, ", ")), "\n")
}

// samplerTitle is A1111's name of a scheduler.
func samplerTitle(name string) string {
	name, karras := strings.CutSuffix(name, "_karras")
	title, ok := map[string]string{
		"ddim": "DDIM", "ddpm": "DDPM", "pndm": "PLMS", "lms": "LMS", "euler": "Euler", "euler_a": "Euler a",
		"heun": "Heun", "unipc": "UniPC", "lcm": "LCM", "dpm++": "DPM++ 2M", "dpm++_2m": "DPM++ 2M",
		"dpm++_3m": "DPM++ 3M", "dpm++_sde": "DPM++ SDE", "dpm++_2m_sde": "DPM++ 2M SDE",
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
