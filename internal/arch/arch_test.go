// Package arch checks which package may import which, and how long lines are.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows lists what each package may import of the module. Tests are free.
var arrows = map[string][]string{
	"cmd/limner": {
		"controlnet",
		"controlnet/condition",
		"data",
		"data/build",
		"data/check",
		"data/circles",
		"data/imaging",
		"demo",
		"internal/disk",
		"internal/numbers",
		"internal/plaintext",
		"internal/printable",
		"internal/refusal",
		"internal/settings",
		"internal/suggest",
		"internal/units",
		"models/checkpoint",
		"models/clip",
		"models/diffusers",
		"models/hub",
		"models/nn",
		"plan",
		"sample",
		"sample/batch",
		"sample/schedule",
		"train",
		"train/loss",
		"train/optim",
		"train/watch",
		"xla",
		"xla/plugin",
	},
	"plan": {
		"internal/disk",
		"xla",
		"xla/hlo",
		"xla/pjrt",
	},
	"demo": {
		"data",
		"data/circles",
		"data/imaging",
		"internal/disk",
		"internal/settings",
		"models/checkpoint",
		"models/clip",
		"models/diffusers",
		"models/nn",
		"models/noise",
		"models/sd",
		"models/unet",
		"sample",
		"train",
		"train/latents",
		"train/optim",
		"train/watch",
		"xla",
	},
	"train/optim": {
		"internal/settings",
		"models/nn",
		"xla/random",
	},
	"train/folder": {
		"internal/disk",
		"internal/plaintext",
		"internal/refusal",
		"internal/settings",
		"internal/units",
		"models/checkpoint",
		"models/diffusers",
		"models/nn",
	},
	"train/latents": {
		"data",
		"data/imaging",
		"internal/refusal",
		"internal/units",
		"models/nn",
		"models/safetensors",
		"models/sd",
		"models/vae",
		"train/loss",
		"xla",
		"xla/program",
	},
	"train/step": {
		"internal/units",
		"models/nn",
		"models/safetensors",
		"train/loss",
		"train/optim",
		"xla",
		"xla/program",
		"xla/random",
	},
	"train/watch": {
		"controlnet/condition",
		"data",
		"data/imaging",
		"internal/disk",
		"internal/page",
		"internal/settings",
		"internal/units",
		"models/clip",
		"models/nn",
		"sample",
		"train/loss",
		"xla",
		"xla/program",
	},
	"train/loss": {
		"controlnet",
		"internal/settings",
		"models/checkpoint",
		"models/clip",
		"models/diffusers",
		"models/nn",
		"models/noise",
		"models/sd",
		"models/unet",
		"models/vae",
		"xla",
		"xla/program",
		"xla/random",
	},
	"train": {
		"controlnet",
		"controlnet/condition",
		"data",
		"data/imaging",
		"internal/disk",
		"internal/plaintext",
		"internal/refusal",
		"internal/settings",
		"internal/units",
		"models/checkpoint",
		"models/clip",
		"models/diffusers",
		"models/nn",
		"sample",
		"sample/schedule",
		"train/folder",
		"train/latents",
		"train/loss",
		"train/optim",
		"train/step",
		"train/watch",
		"xla",
		"xla/program",
	},
	"train/torture": {
		"data/circles",
		"models/clip",
		"models/diffusers",
		"models/nn",
		"models/sd",
		"models/unet",
		"train/folder",
		"train/watch",
	},
	"sample": {
		"controlnet",
		"data",
		"data/imaging",
		"internal/disk",
		"internal/settings",
		"models/checkpoint",
		"models/clip",
		"models/diffusers",
		"models/nn",
		"models/noise",
		"models/sd",
		"models/unet",
		"sample/schedule",
		"xla",
		"xla/program",
	},
	"sample/batch": {
		"controlnet/condition",
		"data/imaging",
		"internal/disk",
		"internal/numbers",
		"internal/plaintext",
		"internal/refusal",
		"internal/suggest",
		"models/checkpoint",
		"models/clip",
		"models/diffusers",
		"models/hub",
		"models/safetensors",
		"sample",
		"sample/schedule",
		"xla",
	},
	"sample/schedule": {
		"internal/suggest",
		"models/noise",
	},
	"controlnet": {
		"models/nn",
		"models/unet",
	},
	"controlnet/condition": {
		"data/imaging",
		"internal/plaintext",
		"internal/suggest",
	},
	"models/unet": {
		"models/nn",
	},
	"models/vae": {
		"models/nn",
	},
	"models/clip": {
		"internal/disk",
		"internal/plaintext",
		"models/nn",
	},
	"models/sd": {
		"controlnet",
		"models/clip",
		"models/nn",
		"models/noise",
		"models/unet",
		"models/vae",
	},
	"models/noise": {
		"internal/plaintext",
		"models/nn",
	},
	"models/nn": {
		"internal/plaintext",
	},
	"models/checkpoint": {
		"internal/disk",
		"internal/plaintext",
		"internal/suggest",
		"models/nn",
		"models/safetensors",
	},
	"models/safetensors": {
		"internal/disk",
	},
	"models/hub": {
		"internal/disk",
		"internal/plaintext",
	},
	"models/diffusers": {
		"controlnet",
		"internal/disk",
		"internal/plaintext",
		"models/checkpoint",
		"models/clip",
		"models/nn",
		"models/noise",
		"models/sd",
		"models/unet",
		"models/vae",
	},
	"data": {
		"controlnet/condition",
		"data/arrow",
		"data/imaging",
		"internal/disk",
		"internal/parquetfile",
		"internal/plaintext",
		"internal/printable",
		"internal/settings",
	},
	"internal/parquetfile": {},
	"data/arrow":           {},
	"data/build": {
		"controlnet/condition",
		"data",
		"data/imaging",
		"data/quality",
		"internal/disk",
		"internal/parquetfile",
		"internal/refusal",
		"internal/units",
	},
	"data/check": {
		"data",
		"data/build",
		"data/imaging",
		"data/quality",
		"internal/disk",
		"internal/page",
		"internal/printable",
		"internal/settings",
		"internal/units",
	},
	"data/circles": {
		"data/imaging",
		"internal/disk",
		"internal/parquetfile",
		"internal/settings",
	},
	"data/imaging": {
		"internal/disk",
	},
	"data/quality": {
		"data/imaging",
	},
	"xla": {
		"internal/disk",
		"internal/plaintext",
		"xla/cpu",
		"xla/hlo",
		"xla/mosaic",
		"xla/patch",
		"xla/pjrt",
		"xla/plugin",
	},
	"xla/plugin": {
		"internal/disk",
		"internal/plaintext",
		"xla/cpu",
		"xla/pjrt",
	},
	"xla/hlo": {},
	"xla/cpu": {
		"xla/hlo",
		"xla/patch",
		"xla/pjrt",
	},
	"xla/mosaic": {
		"xla/patch",
	},
	"xla/patch": {
		"xla/pjrt",
	},
	"xla/pjrt": {},
	"xla/program": {
		"models/nn",
		"xla",
	},
	"xla/random": {},
	"bench/growth": {
		"plan",
	},
	"bench": {
		"controlnet",
		"data",
		"data/build",
		"data/imaging",
		"internal/disk",
		"internal/parquetfile",
		"internal/settings",
		"models/checkpoint",
		"models/clip",
		"models/diffusers",
		"models/nn",
		"models/noise",
		"models/sd",
		"models/unet",
		"models/vae",
		"plan",
		"sample",
		"train/loss",
		"train/optim",
		"train/step",
		"xla",
		"xla/hlo",
		"xla/plugin",
		"xla/program",
	},
	"internal/disk": {},
	"internal/plaintext": {
		"internal/disk",
	},
	"internal/golden":  {},
	"internal/numbers": {},
	"internal/page": {
		"data/imaging",
	},
	"internal/printable": {},
	"internal/refusal":   {},
	"internal/settings":  {},
	"internal/suggest":   {},
	"internal/units":     {},
	"internal/parity": {
		"internal/golden",
		"models/checkpoint",
		"models/nn",
		"models/safetensors",
		"models/unet",
		"xla",
		"xla/program",
	},
	// What these may import is settled, though they are not written yet.
	"publish": {
		"data",
		"models/hub",
		"sample/batch",
		"train/folder",
	},
	"serve": {
		"controlnet/condition",
		"data/imaging",
		"sample/batch",
	},
	"internal/arch":           {},
	"internal/arch/structure": {},
}

// gomlxDoors may use GoMLX beyond its packages for graphs, shapes and dtypes.
var gomlxDoors = []string{"models/nn", "train/step", "xla", "xla/cpu", "xla/mosaic", "xla/plugin", "xla/patch"}

// renamers may rename files and folders themselves; others publish what they write through internal/disk.
var renamers = []string{"data/build", "internal/disk", "models/hub", "sample/batch", "train/folder", "xla/plugin"}

var gomlxForAll = []string{
	"github.com/gomlx/gomlx/pkg/core/graph", "github.com/gomlx/gomlx/pkg/core/shapes",
	"github.com/gomlx/gomlx/pkg/core/dtypes",
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Doc", "limner/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath, Doc string
			Imports         []string
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(pkg.ImportPath, "limner/")
		allowed, ok := arrows[name]
		if !ok {
			t.Errorf("%s has no place in the architecture", name)
		}
		if pkg.Doc == "" && name != "internal/arch" {
			t.Errorf("%s has no package comment", name)
		}
		for _, path := range pkg.Imports {
			if own, ok := strings.CutPrefix(path, "limner/"); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s: no arrow leads there", name, own)
			}
			if path == "github.com/google/renameio/v2" && name != "internal/disk" {
				t.Errorf("%s imports %s: write files through internal/disk", name, path)
			}
			if strings.HasPrefix(path, "github.com/gomlx/") && !slices.Contains(gomlxForAll, path) &&
				!slices.Contains(gomlxDoors, name) {
				t.Errorf("%s imports %s, which only %s may", name, path, strings.Join(gomlxDoors, ", "))
			}
		}
	}
	if seen == 0 {
		t.Error("no packages were listed")
	}
}

// What is written beside its name and renamed without being synced can be empty after a crash.
func TestRenames(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{range .GoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}`,
		"limner/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		name, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name = strings.TrimPrefix(name, "limner/"); bytes.Contains(source, []byte("os.Rename(")) &&
			!slices.Contains(renamers, name) {
			t.Errorf("%s calls os.Rename, which only %s may: publish through internal/disk",
				path, strings.Join(renamers, ", "))
		}
	}
}
