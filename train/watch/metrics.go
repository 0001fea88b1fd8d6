package watch

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"limner/internal/disk"
)

// metricsName is the file that gets a line of JSON for every step.
const metricsName = "metrics.jsonl"

// mostWaiting is how many lines wait for a disk that takes none: some 100 MB.
const mostWaiting = 250_000

// metrics appends to metrics.jsonl; nil writes nothing. Lines that cannot be written wait for the next.
type metrics struct {
	outputDir string
	step      int // lines of later steps that the file has when it is opened are dropped: they will be made again

	file    *appended // nil until it can be opened
	waiting [][]byte
	steps   []int // of the lines that wait
}

// newMetrics is for a run that goes on after the given step.
func newMetrics(outputDir string, step int) *metrics {
	return &metrics{outputDir: outputDir, step: step}
}

// open drops the lines of later steps and opens the file.
func (m *metrics) open() error {
	path := filepath.Join(m.outputDir, metricsName)
	kept, err := linesUpTo(path, m.step)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := disk.WriteFile(path, kept, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	m.file, err = openAppended(path)
	return err
}

// write adds the line of a step.
func (m *metrics) write(p Progress) error {
	if m == nil {
		return nil
	}
	line, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if len(m.waiting) < mostWaiting {
		m.waiting, m.steps = append(m.waiting, append(line, '\n')), append(m.steps, p.Step)
	}
	return m.flush()
}

// flush writes the lines that wait.
func (m *metrics) flush() error {
	if m.file == nil {
		if err := m.open(); err != nil {
			return err
		}
	}
	for len(m.waiting) > 0 {
		if err := m.file.write(m.waiting[0]); err != nil {
			return fmt.Errorf("write %s: %w", metricsName, err)
		}
		m.waiting, m.steps = m.waiting[1:], m.steps[1:]
	}
	return nil
}

// begin opens the file before there is a line.
func (m *metrics) begin() error {
	if m == nil {
		return nil
	}
	return m.flush()
}

// sync makes the lines so far durable.
func (m *metrics) sync() error {
	if m == nil {
		return nil
	}
	if err := m.flush(); err != nil {
		return err
	}
	return m.file.sync()
}

// goBack drops the lines of steps after the given one.
func (m *metrics) goBack(step int) error {
	if m == nil {
		return nil
	}
	n := 0 // lines that stay
	for n < len(m.steps) && m.steps[n] <= step {
		n++
	}
	m.step, m.waiting, m.steps = step, m.waiting[:n], m.steps[:n]
	if m.file == nil {
		return m.flush()
	}
	closed := m.file.close()
	m.file = nil
	return errors.Join(closed, m.flush())
}

func (m *metrics) close() error {
	if m == nil {
		return nil
	}
	err := m.flush()
	if m.file != nil {
		err = errors.Join(err, m.file.close())
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
