package train

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// Progress is one step of a run, as metrics.jsonl has it.
type Progress struct {
	Step            int     `json:"step"` // optimizer steps made
	Epoch           int     `json:"epoch"`
	Images          int     `json:"images_seen"`
	Loss            float64 `json:"loss"`
	GradNorm        float64 `json:"grad_norm"` // before clipping
	LearningRate    float64 `json:"lr"`
	ImagesPerSecond float64 `json:"images_per_s"`
	WentBackAt      int     `json:"went_back_at,omitempty"` // of the first step after going back: the step that was not finite
	Spent                   // in this step, or between the last one and this
	DataStall       float64 `json:"data_stall"` // share of the time since the process began in which no batch was ready
	TFLOPs          float64 `json:"tflops"`     // TFLOP/s of this step, over all devices
	PeakShare       float64 `json:"peak_share,omitempty"`

	Steps int           `json:"-"` // of the whole run
	Left  time.Duration `json:"-"` // at this pace
}

// metricsName is the file that gets a line of JSON for every step.
const metricsName = "metrics.jsonl"

// metrics appends to metrics.jsonl; nil writes nothing.
type metrics struct {
	file *os.File
	enc  *json.Encoder
}

// openMetrics opens the file for a run that goes on after the given step, dropping the lines of later steps, which will be made again.
func openMetrics(outputDir string, step int) (*metrics, error) {
	path := filepath.Join(outputDir, metricsName)
	kept, err := linesUpTo(path, step)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, kept, 0o644, renameio.WithTempDir(outputDir)); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &metrics{file: f, enc: json.NewEncoder(f)}, nil
}

// goBack drops the lines of steps after the given one.
func (m *metrics) goBack(outputDir string, step int) error {
	if m == nil {
		return nil
	}
	if err := m.close(); err != nil {
		return err
	}
	again, err := openMetrics(outputDir, step)
	if err == nil {
		*m = *again
	}
	return err
}

// ReadMetrics reads the steps of the run in an output folder.
func ReadMetrics(outputDir string) ([]Progress, error) {
	path := filepath.Join(outputDir, metricsName)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var steps []Progress
	for decoder := json.NewDecoder(f); ; {
		var p Progress
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return steps, nil
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		steps = append(steps, p)
	}
}

func linesUpTo(path string, step int) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	var kept []byte
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var p Progress
		if json.Unmarshal(lines.Bytes(), &p) == nil && p.Step <= step {
			kept = append(append(kept, lines.Bytes()...), '\n')
		}
	}
	return kept, lines.Err()
}

func (m *metrics) write(p Progress) error {
	if m == nil {
		return nil
	}
	if err := m.enc.Encode(p); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// sync makes the lines so far durable.
func (m *metrics) sync() error { return m.file.Sync() }

func (m *metrics) close() error {
	if m == nil {
		return nil
	}
	return m.file.Close()
}
