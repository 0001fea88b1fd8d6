package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What can be refused without the model is, before the Hub is asked for it, which is what refuses the one that is in
// order.
func TestTrainRefusesBeforeTheModel(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HF_HUB_OFFLINE", "1")
	t.Setenv("HF_HOME", filepath.Join(dir, "hub"))
	if _, log, code := limner(t, dir, "data", "synth", "circles", "--count", "20", "--size", "16",
		"--out", "data"); code != 0 {
		t.Fatal(log)
	}
	for _, name := range []string{"bad", "empty", "taken"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bad/a.png", "bad/b.png", "taken/thesis.tex", "file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	vae := []string{"train", "vae", "--output_dir", "run"}
	control := []string{"train", "controlnet", "--output_dir", "run", "--train_data_dir", "data"}
	dreambooth := []string{
		"train", "dreambooth", "--output_dir", "run", "--train_data_dir", "data", "--instance_prompt",
		"a", "--class_prompt", "a", "--class_data_dir", "class", "--with_prior_preservation",
	}
	for name, c := range map[string]struct {
		command []string
		flags   string
		code    int
		want    string
	}{
		"output folder in a file": {
			vae, "--train_data_dir data --output_dir file/run", exitConfig, "output folder: ",
		},
		"output folder of others": {
			vae, "--train_data_dir data --output_dir taken", exitConfig, "holds something else (thesis.tex)",
		},
		"cache folder in a file": {control, "--cache_latents --cache_dir file/cache", exitConfig, "cache_dir: "},
		"no dataset":             {vae, "--train_data_dir nowhere", exitConfig, "nowhere: no such file"},
		"empty dataset":          {vae, "--train_data_dir empty", exitConfig, "empty holds no dataset that is read"},
		"no usable row": {
			vae, "--train_data_dir bad --train_batch_size 1", exitConfig,
			"none of the 2 rows can be used, the first: bad row 0",
		},
		"large batch": {
			control, "--train_batch_size 64", exitConfig, "batch size 64 is more than the 20 rows",
		},
		"large batch, cached": {
			control, "--train_batch_size 64 --cache_latents", exitConfig, "batch size 64 is more than the 20 rows",
		},
		"large batch of own": {
			dreambooth, "--train_batch_size 64", exitConfig, "batch size 32 is more than the 20 rows",
		},
		"accumulation": {
			vae, "--train_data_dir data --train_batch_size 4 --gradient_accumulation_steps 6", exitConfig,
			"6 batches of 4 are more than the 20 rows",
		},
		"absurd batch": {
			control, "--train_batch_size 1000000000", exitUsage,
			"train_batch_size, global_batch_size: got 1000000000, want 1 to ",
		},
		"absurd batch, cached": {
			control, "--train_batch_size 1000000000 --cache_latents", exitUsage,
			"train_batch_size, global_batch_size: got 1000000000, want 1 to ",
		},
		"absurd resolution": {
			control, "--resolution 1000000", exitUsage, "resolution: got 1000000, want 1 to 8192",
		},
		"absurd resolution, cached": {
			control, "--resolution 1000000 --cache_latents", exitUsage, "resolution: got 1000000, want 1 to 8192",
		},
		"absurd class": {
			dreambooth, "--num_class_images 1000000000", exitUsage, "num_class_images: got 1000000000, want 0 to ",
		},
		"absurd validation": {
			control, "--validation_prompt a --validation_image a.png --num_validation_images 1000000000", exitUsage,
			"num_validation_images: got 1000000000",
		},
		"no picture to validate with": {
			control, "--validation_prompt a --validation_image nowhere.png", exitConfig, "validation_image: ",
		},
		"held-out rows": {control, "--validation_data_dir bad", exitConfig, "validation_data_dir: "},
		"address": {
			vae, "--train_data_dir data --metrics_address " + listener.Addr().String(), exitConfig, "metrics_address: ",
		},
		"nothing to refuse": {
			vae, "--train_data_dir data", exitConfig, "no folder org/name here, so it was looked for on the Hub",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, log, code := limner(t, dir, append(append(c.command, "--model", "org/name"),
				strings.Fields(c.flags)...)...)
			if code != c.code || !strings.Contains(log, c.want) {
				t.Errorf("ended with %d, want %d and %q:\n%s", code, c.code, c.want, log)
			}
			for _, made := range []string{"run", "class"} {
				if _, err := os.Stat(filepath.Join(dir, made)); err == nil {
					t.Errorf("%s was made", made)
				}
			}
		})
	}
}
