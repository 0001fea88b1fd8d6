package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"

	"github.com/alecthomas/kong"

	"limner/data/imaging"
	"limner/internal/printable"
	"limner/sample/batch"
	"limner/xla"
)

type sampleCmd struct {
	batch.Options
	executableFlags
	runFlags
}

// Help shows one working example.
func (sampleCmd) Help() string {
	return `Example:

  limner sample --model sd15 --prompt "a red circle" --prompt "two cats" --num_images 2 --output_dir out

The same seed gives the same image, on some CPUs but for rounding, whatever is sampled beside it. A control image, an image or
a mask of another size is resized. Images carry how they were sampled and the names and SHA-256 of what they were made of: limner show prints it, and limner sample --like
repeats it, with the model and the files being given again, which it compares.

Prompt styles: plain takes a prompt as it stands. With a1111, (x) counts 1.1 times as much, [x] 1/1.1 times, (x:1.3) 1.3 times; nested
brackets multiply; \( \) \[ \] are signs; BREAK goes on in a new chunk of 75 tokens; the mean of the embeddings is restored. With comfy,
(x) and (x:1.3) likewise, but an explicit weight replaces the outer one, square brackets and BREAK are text, and a weight moves the
embedding from that of the empty prompt.

With a1111, <lora:NAME:0.8> in a prompt applies a LoRA at that weight to its image: one that is given by --lora, whose own scale it replaces, or a .safetensors
file below --lora_dir, by the file's name without its extension. The other styles refuse it.

A line of a prompt file may end in --n NEGATIVE, --w WIDTH, --h HEIGHT, --d SEED, --s STEPS, --l GUIDANCE, --ss SCHEDULER, --cn CONTROL
IMAGE (one for each ControlNet), or any setting that --xy takes, such as --strength 0.5.

--xy takes prompt, negative_prompt, steps, scheduler, guidance, seed, strength, clip_skip, conditioning, lora_scale and other flags'
names, as in --xy steps=10,20,30 scheduler=ddim,unipc. A value with commas of its own: separate the values by | instead.`
}

func (c sampleCmd) Run(ctx context.Context, command *kong.Context) (err error) {
	if p := planOf(command); p != nil {
		return p.sample(ctx, &c)
	}
	if drawnSeed(command) != nil {
		drawn := c.Seed
		if c.Seed, err = c.SeedBegunWith(); err != nil {
			return err
		}
		saySeed(drawn, c.Seed)
	}
	w := &sampleWatcher{bar: newProgress(os.Stderr, "sampling")}
	list, err := batch.New(c.Options, batch.Host{
		Version: version, Backend: c.Backend, OpenModel: openModel, Locate: locate, Watcher: w,
		Open: func(ctx context.Context) (*xla.Backend, error) { return c.open(ctx, c.Executable...) },
		Log:  besideBar{func() *progress { return w.bar }},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.bar.Close()) }()
	return list.Run(ctx)
}

// sampleWatcher shows a bar, and prints each file that was written.
type sampleWatcher struct {
	mu  sync.Mutex // images are written while the next are sampled
	bar *progress
}

// Step moves the bar.
func (w *sampleWatcher) Step(done, total int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bar.Step(done, total, "")
}

// Image prints where an image is, and of what.
func (w *sampleWatcher) Image(path string, seed uint64, prompt string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bar.bar != nil {
		_ = w.bar.bar.Clear() // fails only on a terminal that is gone
	}
	_, err := fmt.Printf("%s  seed %d  %s\n", path, seed, printable.Line(prompt, printable.LineLimit))
	return err
}

// File prints where a file that goes with the images is.
func (w *sampleWatcher) File(path string) error {
	_, err := fmt.Println(path)
	return err
}

// Preview shows a preview on terminals that can.
func (w *sampleWatcher) Preview(m *imaging.RGB) error { return showInTerminal(os.Stderr, m) }

// decodeAxes takes all settings of --xy up to the next flag: one or several behind the flag, or the flag again.
func decodeAxes(command *kong.DecodeContext, target reflect.Value) error {
	for {
		var text string
		if err := command.Scan.PopValueInto("setting", &text); err != nil {
			return err
		}
		target.Set(reflect.Append(target, reflect.ValueOf(text)))
		if !command.Scan.Peek().IsValue() {
			return nil
		}
	}
}
