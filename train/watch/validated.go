package watch

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"limner/data/imaging"
	"limner/internal/disk"
)

// Validated is what came of a validation: a line of validation.jsonl.
type Validated struct {
	Step     int              `json:"step"`
	Seconds  float64          `json:"seconds"`
	Images   []ValidatedImage `json:"images,omitempty"`
	Fidelity *Fidelity        `json:"condition_fidelity,omitempty"`
	// Baseline is the fidelity of the same images sampled without the ControlNet, before the first step.
	Baseline *Fidelity   `json:"baseline_fidelity,omitempty"`
	Loss     *float64    `json:"loss,omitempty"` // the mean of Losses
	Losses   []RangeLoss `json:"loss_by_timesteps,omitempty"`
}

// ValidatedImage is an image that a validation drew.
type ValidatedImage struct {
	File      string `json:"file"` // below the output folder; "" where it could not be written
	Prompt    string `json:"prompt"`
	Condition string `json:"condition,omitempty"` // file of the conditioning image, below the output folder
	Target    string `json:"target,omitempty"`    // that of the true picture, which the condition was taken from
	Seed      uint64 `json:"seed"`
	Problem   string `json:"problem,omitempty"` // what is wrong with it
}

// RangeLoss is the loss of held-out rows at timesteps from From up to To.
type RangeLoss struct {
	From int     `json:"from"`
	To   int     `json:"to"`
	Loss float64 `json:"loss"`
}

// String says it in a line.
func (v Validated) String() string {
	words := []string{fmt.Sprintf("validation at step %d (%.1f s)", v.Step, v.Seconds)}
	if v.Loss != nil {
		words = append(words, fmt.Sprintf("loss %.4f", *v.Loss))
	}
	if f := v.Fidelity; f != nil {
		words = append(words, "condition followed: "+f.String())
	}
	if f := v.Baseline; f != nil {
		words = append(words, fmt.Sprintf("without the ControlNet: %s %.2f", f.Measure, f.Score))
	}
	for _, image := range v.Images {
		if image.Problem != "" {
			words = append(words, image.Problem)
		}
	}
	return strings.Join(words, ", ")
}

// The files of validations below the output folder.
const (
	validationName = "validation.jsonl"
	validationDir  = "validation"
)

// readValidations reads the validations up to a step, and drops later ones, which will be made again.
func readValidations(outputDir string, step int) ([]Validated, error) {
	path := filepath.Join(outputDir, validationName)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	var kept []Validated
	var text []byte
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var v Validated
		if json.Unmarshal(lines.Bytes(), &v) == nil && v.Step <= step {
			kept, text = append(kept, v), append(append(text, lines.Bytes()...), '\n')
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return kept, disk.WriteFile(path, text, 0o644)
}

// appendValidation adds a line to validation.jsonl.
func appendValidation(outputDir string, v Validated) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return appendLine(filepath.Join(outputDir, validationName), line)
}

// events shows a validation in TensorBoard.
func (v Validated) events(e *events, outputDir string) error {
	numbers := map[string]float64{"validation/seconds": v.Seconds}
	if v.Loss != nil {
		numbers["validation/loss"] = *v.Loss
	}
	for _, r := range v.Losses {
		numbers[fmt.Sprintf("validation/loss_%04d_%04d", r.From, r.To)] = r.Loss
	}
	if f := v.Fidelity; f != nil {
		numbers["validation/condition_"+f.key()] = f.Score
		if f.Measure == byF1 {
			numbers["validation/condition_precision"] = f.Precision
			numbers["validation/condition_recall"] = f.Recall
		}
	}
	if f := v.Baseline; f != nil {
		numbers["validation/condition_baseline"] = f.Score
	}
	if err := e.scalars(v.Step, numbers); err != nil {
		return err
	}
	for i, image := range v.Images {
		if image.File == "" { // it could not be written
			continue
		}
		raw, m, err := imaging.Decoding{}.DecodeFile(filepath.Join(outputDir, image.File))
		if err != nil {
			return err
		}
		if err := e.image(v.Step, fmt.Sprintf("validation/%02d", i), raw, m.Width, m.Height); err != nil {
			return err
		}
	}
	return nil
}

// Convergence is when a ControlNet began to follow its condition.
type Convergence struct {
	After, Before int     // the steps of the validations between which it did
	From, To      float64 // the score there
	Measure       string  // of the score
}

// convergence finds sudden convergence in validations, in order of their steps: the largest rise of the score from one
// to the next, if it is at least half of all that it ever rose, and at least 0.15. nil where there is none, as when it
// rises evenly.
func convergence(validations []Validated) *Convergence {
	const least = 0.15
	measured := slices.DeleteFunc(slices.Clone(validations), func(v Validated) bool { return v.Fidelity == nil })
	if len(measured) < 2 {
		return nil
	}
	var best *Convergence
	low, high := measured[0].Fidelity.Score, measured[0].Fidelity.Score
	for i, v := range measured[1:] {
		was, is := measured[i], v.Fidelity.Score
		low, high = min(low, is), max(high, is)
		if rise := is - was.Fidelity.Score; best == nil || rise > best.To-best.From {
			best = &Convergence{was.Step, v.Step, was.Fidelity.Score, is, v.Fidelity.Measure}
		}
	}
	if rise := best.To - best.From; rise < least || rise < (high-low)/2 {
		return nil
	}
	return best
}
