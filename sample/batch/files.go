package batch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"limner/internal/disk"
	"limner/models/diffusers"
	"limner/models/hub"
)

// UsedFile is a file or model that an image was made with: what it is, and never where it lies.
type UsedFile struct {
	Flag string `json:"flag"` // of limner sample, that names it
	Name string `json:"name"`
	// SHA256 is that of the file or, of a model and a ControlNet, the fingerprint of its weights, see
	// diffusers.Weights. Empty: it is not known.
	SHA256 string `json:"sha256,omitempty"`
}

// The flags that choose what an image is made of. A record says what they named, and never sets them.
const (
	modelFlag      = "pretrained_model_name_or_path"
	variantFlag    = "variant"
	configFlag     = "original_config"
	loraFlag       = "lora"
	inversionFlag  = "textual_inversion"
	controlNetFlag = "controlnet_model_name_or_path"
	imageFlag      = "image"
	maskFlag       = "mask"
	controlFlag    = "control_image"
	noiseFlag      = "latents"
)

// fileFlags are those flags in the order in which files are listed and compared.
var fileFlags = []string{
	modelFlag, variantFlag, configFlag, loraFlag, inversionFlag, controlNetFlag, noiseFlag,
	imageFlag, maskFlag, controlFlag,
}

// baseName is the last part of a path of any system; of a model on the Hub, all of its name.
func baseName(path string) string {
	if _, err := os.Stat(path); err != nil && isHubName(path) {
		return path
	}
	if base := filepath.Base(path); base == "." || base == ".." {
		if full, err := filepath.Abs(path); err == nil {
			path = full
		}
	}
	return lastPart(path)
}

// lastPart is what stands behind the last separator.
func lastPart(path string) string {
	path = strings.TrimRight(path, `/\`)
	return path[strings.LastIndexAny(path, `/\`)+1:]
}

// isHubName says whether a name is org/name, and perhaps a revision or a file, by the Hub's rules, which no path with
// other signs passes.
func isHubName(name string) bool {
	_, err := hub.ParseRef(name)
	return err == nil
}

// named is what a flag names, without its folder and, of a model, with its revision.
func named(flag, value, sum string) UsedFile {
	token, path, ok := strings.Cut(value, "=")
	if flag != inversionFlag || !ok {
		token, path = "", value
	} else {
		token += "="
	}
	return UsedFile{Flag: flag, Name: token + baseName(path), SHA256: sum}
}

// modelFiles are what the model's own flags name.
func modelFiles(f diffusers.ModelOptions, fingerprint string) []UsedFile {
	model := named(modelFlag, f.Model, fingerprint)
	if f.Revision != "" {
		model.Name += "@" + f.Revision
	}
	files := []UsedFile{model}
	if f.Variant != "" {
		files = append(files, UsedFile{Flag: variantFlag, Name: f.Variant})
	}
	if f.OriginalConfig != "" {
		files = append(files, named(configFlag, f.OriginalConfig, ""))
	}
	return files
}

// Placeholder stands for the file in a command that is printed. A name on the Hub stands for itself.
func (u UsedFile) Placeholder() string {
	switch u.Flag {
	case variantFlag:
		return u.Name
	case inversionFlag:
		if token, path, ok := strings.Cut(u.Name, "="); ok {
			return token + "=PATH/" + lastPart(path)
		}
	case modelFlag, controlNetFlag, loraFlag:
		if isHubName(u.Name) {
			return u.Name
		}
	}
	return "PATH/" + lastPart(u.Name)
}

// fileSum is the SHA-256 of a regular file.
func fileSum(path string) (sum string, err error) {
	f, err := disk.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash input: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash input: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// compareFiles says in what the files that an image was made with differ from those of now.
func compareFiles(was, now []UsedFile) error {
	var errs []error
	for _, flag := range fileFlags {
		old, given := withFlag(was, flag), withFlag(now, flag)
		if len(old) != len(given) {
			errs = append(errs, fmt.Errorf("it was made with %s, this command gives %s",
				times(len(old), flag), times(len(given), flag)))
			continue
		}
		for i, file := range old {
			switch {
			case file.SHA256 != "" && file.SHA256 != given[i].SHA256:
				errs = append(errs,
					fmt.Errorf("--%s: %q is not the %q that it was made with: its SHA-256 is %s and was %q",
						flag, given[i].Name, file.Name, given[i].SHA256, file.SHA256))
			case flag == variantFlag && file.Name != given[i].Name:
				errs = append(errs, fmt.Errorf("--%s: %q, it was made with %q", flag, given[i].Name, file.Name))
			}
		}
	}
	return joinDistinct(errs)
}

func withFlag(files []UsedFile, flag string) []UsedFile {
	return slices.DeleteFunc(slices.Clone(files), func(f UsedFile) bool { return f.Flag != flag })
}

// times says how often a flag is given.
func times(n int, flag string) string {
	switch n {
	case 0:
		return "no --" + flag
	case 1:
		return "--" + flag
	}
	return fmt.Sprintf("%d times --%s", n, flag)
}
