package main

import (
	"strings"
	"testing"

	"limner/sample/batch"
)

// parseSample parses a command line of limner sample.
func parseSample(t *testing.T, args ...string) *sampleCmd {
	t.Helper()
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	command, err := parser.Parse(withDashes(append([]string{"sample", "--model", "m", "--output_dir", "out"}, args...)))
	if err != nil {
		t.Fatal(err)
	}
	return command.Selected().Target.Addr().Interface().(*sampleCmd)
}

// Numbers that no image can have are refused by the flags alone, before anything is opened or takes memory.
func TestOutOfRange(t *testing.T) {
	for want, args := range map[string]string{
		"--num_images 1000000000: want 1 to 100000":                                    "--num_images 1000000000",
		"100000000 images (--num_images 1000 for each of 100000): want at most 100000": "--num_images 1000",
		"--guidance_rescale 1e+30: want 0 to 1":                                        "--guidance_rescale 1e30",
		"--guidance_scale 1e+30: want 0 to 1000":                                       "--guidance_scale 1e30",
		"--guidance_scale -1: want 0 to 1000":                                          "--guidance_scale=-1",
		"--eta 2: want 0 to 1":                                                         "--eta 2",
		"--strength -0.5: want 0 to 1":                                                 "--image x.png --strength=-0.5",
		"--lora_scale 1e+09: want -1000 to 1000":                                       "--lora l --lora_scale 1e9",
		"--controlnet_conditioning_scale 1e+09: " +
			"want 0 to 1000": "--controlnet_conditioning_scale 1e9",
		"--control_guidance_end 2: want 0 to 1":       "--control_guidance_end 2",
		"--width 1000000: want 1 to 8192":             "--width 1000000 --height 64",
		"--height -8: want 1 to 8192":                 "--height=-8",
		"--width 9000000000000000000: want 1 to 8192": "--width 9000000000000000000",
		"--batch_size 1000000000: want 1 to 4096":     "--batch_size 1000000000",
		"more than the limit of 1073741824 pixels at once, which is a batch of 16": "--batch_size 17 " +
			"--height 8192 --width 8192",
		"--num_inference_steps 1000000000: want 1 to 10000":              "--num_inference_steps 1000000000",
		"--clip_skip 1000000000: want 0 to 100":                          "--clip_skip 1000000000",
		"--target_size 2000000000: want -1000000 to 1000000":             "--target_size 2000000000,1",
		"--target_size: 1 numbers, want 2":                               "--target_size 64",
		"--seed 18446744073709551615: its images would have seeds above": "--seed 18446744073709551615 --num_images 2",
		"--lora_dir needs --prompt_style a1111":                          "--lora_dir .",
		"--preview_steps -1: want at least 1":                            "--preview_steps=-1",
	} {
		c := parseSample(t, append(strings.Fields(args), "--prompt", "x")...)
		if strings.Contains(want, "for each of") {
			c.Prompt = make([]string, 100_000)
		}
		if _, err := batch.New(c.Options, batch.Host{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
	for want, change := range map[string]func(*sampleCmd){
		"a prompt of 20001 bytes: more than the limit of 20000": func(c *sampleCmd) {
			c.Prompt[0] = strings.Repeat("x", 20_001)
		},
		"--xy: 1001 × 1001 images: want at most 100000": func(c *sampleCmd) {
			c.XY = batch.Axes{"seed=1" + strings.Repeat(",1", 1000), "eta=1" + strings.Repeat(",1", 1000)}
		},
	} {
		c := parseSample(t, "--prompt", "x")
		change(c)
		if _, err := batch.New(c.Options, batch.Host{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	large := parseSample(t, "--prompt", "x", "--height", "1024", "--width", "1536", "--batch_size", "512", "--lora",
		"l", "--lora_scale=-1.5")
	large.OutputDir = t.TempDir()
	if _, err := batch.New(large.Options, batch.Host{}); err != nil {
		t.Error(err)
	}
}

// No devices are refused if they were asked for; 0 is what stands where the flag was not given.
func TestNoDevices(t *testing.T) {
	for _, args := range []string{
		"sample --model m --output_dir o --num_devices 0", "doctor --num_devices 0", "doctor --num_devices=-1",
	} {
		parser, err := newParser()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(withDashes(strings.Fields(args))); err == nil ||
			!strings.Contains(err.Error(), ": want at least 1") {
			t.Errorf("%s: got %v", args, err)
		}
	}
}
