package train

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/controlnet/condition"
	"limner/data/circles"
	"limner/data/imaging"
	"limner/internal/parity"
	"limner/train/folder"
)

// conditionFolders write the same images twice: larger than the training's and with captions alone, and prepared, each
// with its condition of the row's draw beside it.
func conditionFolders(t *testing.T, text string, side int, seed uint64) (alone, prepared string) {
	t.Helper()
	alone, prepared = t.TempDir(), t.TempDir()
	c := circles.Default()
	c.Count, c.Size = 8, 40
	taken, err := condition.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i := range c.Count {
		example := c.Example(i)
		fitted, err := imaging.Fit(example.Image(), side, imaging.Bilinear)
		if err != nil {
			t.Fatal(err)
		}
		of, err := taken.Draw(seed, int64(i), 0).Apply(fitted)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%02d", i)
		for path, m := range map[string]*imaging.RGB{
			filepath.Join(alone, name+".png"): example.Image(), filepath.Join(prepared, name+".png"): fitted,
			filepath.Join(prepared, name+"c.png"): of,
		} {
			if err := imaging.WritePNG(path, m); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(alone, name+".txt"), []byte(example.Caption()), 0o644); err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(map[string]string{
			"file_name": name + ".png", "conditioning_image": name + "c.png", "text": example.Caption(),
		})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	text = strings.Join(lines, "\n")
	if err := os.WriteFile(filepath.Join(prepared, "metadata.jsonl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return alone, prepared
}

// Conditions that are taken while training train to the same bits as prepared ones, and are part of the record.
func TestConditionOnTheFly(t *testing.T) {
	const text = "canny(low=rand(20, 60), high=rand(60, 200))"
	model, b := smallModel(t), parity.Backend(t)
	var weights [2]string
	for i, taken := range []string{text, ""} {
		o, r, _ := smallRun(t, model, "")
		o.MaxTrainSteps, o.CheckpointingSteps, o.EMA = 2, 2, nil // one epoch
		alone, prepared := conditionFolders(t, text, r.Resolution, o.Seed)
		r.Data, r.Condition, r.RandomFlip = []string{alone}, taken, true
		if taken == "" {
			r.Data = []string{prepared}
		}
		if err := do(t, context.Background(), b, NewControlNet, o, r); err != nil {
			t.Fatal(err)
		}
		all := files(t, o.OutputDir)
		for name, content := range all {
			if filepath.Base(name) == "diffusion_pytorch_model.safetensors" && filepath.Dir(name) == "." {
				weights[i] = content
			}
		}
		if weights[i] == "" {
			t.Fatalf("no weights among %q", slices.Sorted(maps.Keys(all)))
		}
		if taken == "" {
			continue
		}
		record := all[filepath.Join("checkpoint-2", folder.RecordName)]
		want := `"canny(low=rand(20, 60), high=rand(60, 200), blur=0, source=rgb, norm=l1)"`
		if !strings.Contains(record, want) {
			t.Errorf("the record has no condition %s", want)
		}
		o.ResumeFromCheckpoint, o.MaxTrainSteps = "latest", 3
		for changed, refused := range map[string]bool{"canny": true, strings.ReplaceAll(text, " ", ""): false} {
			r.Condition = changed
			err := do(t, context.Background(), b, NewControlNet, o, r)
			if refused != (err != nil && strings.Contains(err.Error(), "condition: checkpoint has")) {
				t.Errorf("going on with %s: %v", changed, err)
			}
		}
	}
	if weights[0] != weights[1] {
		t.Error("a condition that is taken while training does not train as a prepared one")
	}
}
