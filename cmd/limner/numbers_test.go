package main

import (
	"strings"
	"testing"
)

// Numbers of flags are refused in words; those below 0 may stand behind the flag, as in diffusers' scripts.
func TestNumbersOfFlags(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"--seed 99999999999999999999", "--seed: got 99999999999999999999, want at most 18446744073709551615"},
		{"--seed -5", `--seed: got "-5", want a whole number of at least 0 in digits`},
		{"--seed", "--seed: want a number behind it"},
		{"--seed --grid", `--seed: got "--grid", want a number (see`},
		{"--height 99999999999999999999", "--height: got 99999999999999999999, want at most 9223372036854775807"},
		{"--num_images 1e30", `--num-images: got "1e30", want a whole number in digits`},
		{"--guidance_scale 1e400", "--guidance-scale: got 1e400, want a number between"},
		{"--guidance_scale x", `--guidance-scale: got "x", want a number (see`},
		{"--eta NaN", `--eta: got "NaN", want a finite number`},
		{"--original_size 64,99999999999999999999", "--original-size: got 99999999999999999999, want at most"},
		{"--lora_scale 1,big", `--lora-scale: got "big", want a number`},
		{"--lora_scale -1.5 --height -8 --guidance_scale -.5 --original_size -1,-2", ""},
	} {
		parser, err := newParser()
		if err != nil {
			t.Fatal(err)
		}
		args := append([]string{"sample", "--model", "m", "--output_dir", "o"}, strings.Fields(c.flags)...)
		args = withDashes(args)
		_, err = parser.Parse(args)
		if err != nil {
			err = parseError(args, err)
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.flags, err, c.want)
		}
	}
	c := parseSample(t, "--lora_scale", "-1.5", "--height", "-8", "--guidance_scale", "-.5", "--original_size", "-1,-2")
	if c.LoRAScale[0] != -1.5 || c.Height != -8 || c.GuidanceScale != -0.5 || c.OriginalSize[1] != -2 {
		t.Errorf("got %+v", c.Settings)
	}
}
