package watch

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"limner/data/circles"
	"limner/data/imaging"
)

// writeDiary writes the page of a run of some thousand steps, with validations of pictures of circles.
func writeDiary(t *testing.T, dir string) string {
	t.Helper()
	const steps, each = 1200, 200
	var metrics strings.Builder
	for step := 1; step <= steps; step++ {
		x := float64(step)
		line, err := json.Marshal(Progress{
			Step: step, Epoch: step / 100, Images: 16 * step, Loss: 0.1 + 0.4*math.Exp(-x/150) + 0.03*math.Sin(x),
			GradNorm: 0.13 + 0.01*math.Cos(x/7), LearningRate: 2e-3 * (1 + math.Cos(x/steps*math.Pi)) / 2,
			ImagesPerSecond: 12345 + 100*math.Sin(x/50),
		})
		if err != nil {
			t.Fatal(err)
		}
		metrics.Write(append(line, '\n'))
	}
	if err := os.WriteFile(filepath.Join(dir, metricsName), []byte(metrics.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	v := &validator{outputDir: dir, writes: true, written: newTelemetry(t.Logf)}
	set := circles.Default()
	var rows []Row
	for i := range mostRows {
		c := set.Example(i)
		rows = append(rows, Row{Image: c.Image(), Condition: c.Condition(), Caption: c.Caption()})
	}
	var validated []Validated
	for step := each; step <= steps; step += each {
		f1 := min(1, float64(step)/900)
		followed := Fidelity{Measure: byF1, Precision: f1, Recall: f1 * 0.9, Score: f1 * 0.95}
		one := Validated{Step: step, Fidelity: &followed}
		for i := range 3 {
			c, drawn := set.Example(100+i), set.Example(100+i+step)
			write := func(name string, m *imaging.RGB) string {
				return v.write(filepath.Join(validationDir, name), m)
			}
			image := ValidatedImage{
				Prompt: c.Caption(), Condition: write(fmt.Sprintf("condition-%d.png", i), c.Condition()),
				Target: write(fmt.Sprintf("target-%d.png", i), c.Image()),
			}
			for seed := range uint64(2) {
				image.Seed = seed
				image.File = write(fmt.Sprintf("step-%06d/%d-%d.png", step, i, seed), drawn.Image())
				one.Images = append(one.Images, image)
			}
		}
		validated = append(validated, one)
	}
	d := newDiary(Run{
		Name: "controlnet", Model: "models/sd15", OutputDir: dir, RecipeFile: "recipe.yaml", RecordFile: "run.json",
		Steps: steps, Batch: 16, Images: 16, Devices: 1,
		Parameters: 361_279_120, Rows: 50_000, FLOPs: 1e12,
	}, time.Now())
	if err := d.write(rows, validated, Spent{DataWait: 1, Device: 200, Saving: 3, Validation: 20}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, diaryName))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The page says which run it is of, groups thousands, and describes every picture.
func TestDiary(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "first-run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	page := writeDiary(t, dir)
	first := circles.Default().Example(0).Caption()
	for _, want := range []string{
		"<title>first-run (controlnet of sd15)</title>", "step 1,200 of 1,200, epoch 12, 19,200 images seen",
		"<td>361,279,120</td>", "<td>50,000</td>", "<td>12,254 images/s", `alt="image: ` + first + `"`, `alt="conditioning image: ` + first + `"`,
		`"title":"true picture","alt":"true picture: `, `"alt":"drawn at step 1,200 with seed 1: `,
		`"text":"step 1,200 · condition followed: F1 0.95, precision 1.00, recall 0.90"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if n, want := strings.Count(page, "data:image/jpeg;base64,"), mostRows*2+6*3*(2+2); n != want {
		t.Errorf("%d pictures, want %d", n, want)
	}
	if strings.Contains(page, "ZgotmplZ") {
		t.Error("the template took a picture for something that is not safe")
	}
}
