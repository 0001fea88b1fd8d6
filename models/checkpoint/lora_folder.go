package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// peftFile is PEFT's name of a LoRA's file.
const peftFile = "adapter_model.safetensors"

// LoRAFile is path or, of a folder, the file of the LoRA in it: the one under the name that diffusers and limner or
// PEFT give it, else the only safetensors file. A path to nothing is returned as it is: whoever opens it says what is
// wrong.
func LoRAFile(path string) (string, error) {
	return fileIn(path, "LoRA", "pytorch_lora_weights.safetensors", peftFile)
}

// EmbeddingFile is path or, of a folder, the file of the textual inversion in it, likewise.
func EmbeddingFile(path string) (string, error) {
	return fileIn(path, "textual inversion", "learned_embeds.safetensors")
}

// fileIn finds the first of names in a folder, else its only safetensors file.
func fileIn(path, kind string, names ...string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", kind, err)
	}
	var files, pickled []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".safetensors":
			files = append(files, e.Name())
		case ".bin", ".ckpt", ".pt", ".pth":
			pickled = append(pickled, e.Name())
		}
	}
	for _, name := range names {
		if slices.Contains(files, name) {
			return filepath.Join(path, name), nil
		}
	}
	switch {
	case len(files) == 1:
		return filepath.Join(path, files[0]), nil
	case len(files) > 1:
		return "", fmt.Errorf("open %s %s: the folder has several files, and none of them is named %s: give one of %s",
			kind, path, strings.Join(names, " or "), strings.Join(files, ", "))
	case len(pickled) > 0:
		return "", fmt.Errorf("open %s %s: the folder has only pickled weights (%s), %s",
			kind, path, pickled[0], unpickleFile)
	}
	return "", fmt.Errorf("open %s %s: the folder has no .safetensors file: give the folder that the file is in",
		kind, path)
}
