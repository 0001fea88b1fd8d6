package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"limner/internal/parity"
	"limner/internal/refusal"
	"limner/train/folder"
)

// A step that does not fit is compiled once more with gradient checkpointing, and the run stays so; where that does not
// fit either, it is refused with both figures.
func TestCheckpointingByNeed(t *testing.T) {
	o, r, log := smallRun(t, smallModel(t), smallDataset(t))
	o.MaxTrainSteps, o.CheckpointingSteps, o.MaxDeviceMemory = 1, 1, 1
	run, err := newDecoder(context.Background(), parity.Backend(t), o, r)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	err = run.Do(context.Background())
	text := fmt.Sprint(err)
	figures := regexp.MustCompile(`^the training step does not fit the devices' memory \(needs (\d+) kB of 0 kB, with gradient checkpointing needs (\d+) kB of 0 kB\): give a smaller --train_batch_size`).FindStringSubmatch(text)
	if figures == nil || !errors.As(err, new(refusal.Error)) {
		t.Fatalf("got %v", err)
	}
	without, _ := strconv.Atoi(figures[1])
	with, _ := strconv.Atoi(figures[2])
	if with >= without {
		t.Fatalf("with gradient checkpointing it takes %d kB, without %d", with, without)
	}

	run.byNeed = false
	run.Options.MaxDeviceMemory, run.Options.ResumeFromCheckpoint = int64(with+1)*1e3, "latest"
	if err := run.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("(needs %d kB of %d kB): compiling it with gradient checkpointing",
		without, with+1); !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log)
	}
	for _, name := range []string{folder.RunName, filepath.Join("checkpoint-1", folder.RecordName)} {
		raw, err := os.ReadFile(filepath.Join(o.OutputDir, name))
		if err != nil || !bytes.Contains(raw, []byte(`"gradient_checkpointing_by_need": true`)) {
			t.Errorf("%s does not say so: %v", name, err)
		}
	}
	run.byNeed = false
	run.Options.MaxDeviceMemory, run.Options.MaxTrainSteps = 0, 2
	if err := run.Do(context.Background()); err != nil || !run.byNeed {
		t.Errorf("with more memory the run goes on by need %v: %v", run.byNeed, err)
	}
}
