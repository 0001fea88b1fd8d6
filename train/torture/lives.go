package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"limner/train/folder"
	"limner/train/watch"
)

// The steps of a run, between checkpoints, and the checkpoints that it keeps.
const (
	steps = 150
	every = 5
	keep  = 2
)

// recipe is a training, and the folder of a run of it that nothing disturbed.
type recipe struct {
	name      string
	args      []string
	reference string
	took      time.Duration
}

// ending is how a process ends.
type ending string

const (
	killAnywhere ending = "killed anywhere"
	killInside   ending = "killed while it writes"
	stop         ending = "stopped"
	stopTwice    ending = "stopped twice"
)

type torture struct {
	options
	rng            *rand.Rand
	model, dataset string
	recipes        []*recipe
	run            string // output folder of the round under way
	saveTime       time.Duration

	lives, rounds, equal, anywhere, inside, stopped, stoppedSaved, left, verified, lost int

	slowest time.Duration
}

// prepare makes what the runs need and does each recipe once without a disturbance.
func (t *torture) prepare(ctx context.Context) (err error) {
	if t.model, t.dataset, err = prepare(ctx, t.dir); err != nil {
		return err
	}
	t.recipes = []*recipe{
		{name: "vae", args: []string{"vae", "--use_ema"}},
		{name: "decoder", args: []string{"vae", "--train_decoder_only", "--lr_scheduler", "cosine"}},
		{
			name: "text-to-image", args: []string{
				"text-to-image", "--use_ema", "--proportion_empty_prompts", "0.5", "--lr_scheduler",
				"constant_with_warmup",
			},
		},
	}
	for _, r := range t.recipes {
		r.reference = filepath.Join(t.dir, "reference-"+r.name)
		// The first run compiles; later ones load what it compiled.
		for _, output := range []string{r.reference, filepath.Join(t.dir, "loaded-"+r.name)} {
			start := time.Now()
			p, err := t.start(r, output)
			if err != nil {
				return err
			}
			if err := p.wait(); err != nil || p.code() != 0 {
				return fmt.Errorf("the undisturbed run of %s ended with %d (%v): %s", r.name, p.code(), err, p.log())
			}
			r.took = time.Since(start)
			fmt.Fprintf(t.log, "%s takes %.1f s undisturbed\n", r.name, r.took.Seconds())
		}
	}
	return nil
}

// process is a run of the command.
type process struct {
	command *exec.Cmd
	done    chan error
	mu      sync.Mutex
	stderr  bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (t *torture) start(r *recipe, output string) (*process, error) {
	args := []string{
		"train", r.args[0], "--model", t.model, "--train_data_dir", t.dataset, "--output_dir",
		output, "--resolution", "8", "--train_batch_size", "2", "--lr_warmup_steps", "5", "--learning_rate", "1e-3",
		"--seed", "3", "--resume_from_checkpoint", "latest", "--max_train_steps", strconv.Itoa(steps),
		"--checkpointing_steps", strconv.Itoa(every), "--checkpoints_total_limit", strconv.Itoa(keep),
	}
	args = append(args, r.args[1:]...) // the last one of a flag counts
	p := &process{command: exec.Command(t.limner, args...), done: make(chan error, 1)}
	p.command.Stderr = p
	p.command.Env = append(os.Environ(),
		"LIMNER_COMPILATION_CACHE_DIR="+filepath.Join(t.dir, "executables")) // compiling would be most of a life
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.command.Wait() }()
	return p, nil
}

// wait waits for the end. A process that ended with a code or by a signal is no error.
func (p *process) wait() error {
	err := <-p.done
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func (p *process) code() int { return p.command.ProcessState.ExitCode() }

// ended says whether the process has ended by itself; wait returns at once then.
func (p *process) ended() bool { return len(p.done) > 0 }

// seen is what an output folder was seen to hold.
type seen struct {
	published map[int]bool // all steps whose checkpoints were there at some time
	before    int          // the newest when the process started
	aside     string       // a checkpoint or a file that is being written or removed now
}

func (s *seen) newest() int { return slices.Max(append(slices.Collect(maps.Keys(s.published)), 0)) }

func (s *seen) look(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there is none yet
	}
	s.aside = ""
	for _, e := range entries {
		if number, ok := strings.CutPrefix(e.Name(), "checkpoint-"); ok {
			if step, err := strconv.Atoi(number); err == nil {
				s.published[step] = true
			}
		} else if strings.HasPrefix(e.Name(), ".") && e.Name() != ".limner.lock" {
			s.aside = e.Name()
		}
	}
}

// live runs one process to its end of the given kind, and checks what it left.
func (t *torture) live(end ending) error {
	r := t.recipes[t.rounds%len(t.recipes)]
	if t.run == "" {
		t.run = filepath.Join(t.dir, fmt.Sprintf("round-%d-%s", t.rounds, r.name))
	}
	s := &seen{published: map[int]bool{}}
	s.look(t.run)
	s.before = s.newest()
	p, err := t.start(r, t.run)
	if err != nil {
		return err
	}
	t.lives++
	t.await(p, s, end, r)
	if p.ended() {
		return t.finished(r, p, s)
	}
	switch end {
	case killAnywhere, killInside:
		if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		if err := p.wait(); err != nil {
			return err
		}
		if p.code() >= 0 {
			return t.finished(r, p, s)
		}
		if s.look(t.run); s.aside != "" {
			t.inside++
		} else {
			t.anywhere++
		}
		return t.check(p, s)
	default:
		return t.stop(r, p, s, end)
	}
}

// await waits until the moment for a process to end has come, or it has ended. Most of a life goes by before its first
// step, so half of the signals to stop come after its first save.
func (t *torture) await(p *process, s *seen, end ending, r *recipe) {
	start, nth, aside := time.Now(), 1+t.rng.IntN(12), "" // a start writes three files of its own
	moment := time.Duration(t.rng.Float64() * 1.1 * float64(r.took))
	training := end == stop && t.stopped%2 == 0
	var since time.Time
	for !p.ended() {
		s.look(t.run)
		if s.aside != aside {
			if s.aside == "" {
				t.saveTime = (9*t.saveTime + time.Since(since)) / 10
			}
			aside, since = s.aside, time.Now()
			if nth--; end == killInside && aside != "" && nth <= 0 {
				time.Sleep(time.Duration(t.rng.Float64() * float64(t.saveTime)))
				return
			}
		}
		if training && s.newest() > s.before {
			training, start, moment = false, time.Now(), moment/8
		}
		if end != killInside && !training && time.Since(start) >= moment {
			return
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// stop asks a process to stop and checks that it has saved what it had learnt.
func (t *torture) stop(r *recipe, p *process, s *seen, end ending) error {
	signal := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}[t.rng.IntN(2)]
	if err := p.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	begin := time.Now()
	if end == stopTwice {
		for !p.ended() && !strings.Contains(p.log(), "a second signal leaves at once") {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		begin = time.Now()
		_ = p.command.Process.Signal(signal) // it may have ended
	}
	if err := p.wait(); err != nil {
		return err
	}
	took := time.Since(begin)
	s.look(t.run)
	status, byCode := p.command.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case p.code() == 0:
		return t.finished(r, p, s)
	case byCode && status.Signaled() && p.log() == "":
		return t.check(p, s) // not up yet: nobody was there to hear it
	case end == stopTwice && byCode && status.Signaled():
		t.left++
		t.slowest = max(t.slowest, took)
		return t.check(p, s)
	case p.code() != 75:
		return fmt.Errorf("after %v the command ended with %d: %s", signal, p.code(), p.log())
	case end == stopTwice:
		return t.check(p, s) // stopped before the second
	}
	t.stopped++
	if s.newest() > s.before {
		t.stoppedSaved++
	}
	if err := t.saidRight(p, s.before, s.newest()); err != nil {
		return fmt.Errorf("%w; it said: %s", err, p.log())
	}
	return t.check(p, s)
}

// The ways in which a stopped command says where it stands.
var (
	saidSaved     = regexp.MustCompile(`stopped early at step (\d+), saved in \S*checkpoint-(\d+): `)
	saidNothing   = regexp.MustCompile(`stopped early at step (\d+), with no step made since the last checkpoint: `)
	saidBeginning = regexp.MustCompile(`(compiling|loading) the`)
	saidCompiling = regexp.MustCompile(`stopped early while compiling, at step (\d+): `)
)

// saidRight fails unless a stopped command has saved every step that it made.
func (t *torture) saidRight(p *process, before, newest int) error {
	number := func(r *regexp.Regexp, want int) error {
		if got := r.FindStringSubmatch(p.log())[1]; got != strconv.Itoa(want) {
			return fmt.Errorf("stopped at step %s, the newest checkpoint is of %d", got, want)
		}
		return nil
	}
	switch log := p.log(); {
	case saidSaved.MatchString(log) || saidNothing.MatchString(log):
		made, err := watch.ReadMetrics(t.run)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if len(made) > 0 && made[len(made)-1].Step != newest {
			return fmt.Errorf("step %d was made, the newest checkpoint is of %d", made[len(made)-1].Step, newest)
		}
		if saidNothing.MatchString(log) {
			return number(saidNothing, newest)
		}
		return number(saidSaved, newest)
	case saidCompiling.MatchString(log):
		return number(saidCompiling, before)
	case strings.Contains(log, "stopped early before the first step") && newest == before:
		return nil
	}
	return errors.New("it does not say where it stands")
}

// check fails unless every checkpoint is whole, and every one that was seen is there or rightly pruned.
func (t *torture) check(p *process, s *seen) error {
	if strings.Contains(p.log(), "damaged") {
		t.lost++
		return fmt.Errorf("a checkpoint was found damaged: %s", p.log())
	}
	if from := fmt.Sprintf("going on from %s",
		filepath.Join(t.run, fmt.Sprintf("checkpoint-%d\n", s.before))); s.before > 0 &&
		saidBeginning.MatchString(p.log()) && !strings.Contains(p.log(), from) {
		return fmt.Errorf("it did not go on from checkpoint-%d: %s", s.before, p.log())
	}
	names, err := folder.Checkpoints(t.run)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := folder.Verify(filepath.Join(t.run, name)); err != nil {
			t.lost++
			return fmt.Errorf("%s in %s: %w", name, t.run, err)
		}
		t.verified++
	}
	for step := range s.published {
		newer := 0
		for _, name := range names {
			if n, err := strconv.Atoi(strings.TrimPrefix(name, "checkpoint-")); err == nil && n > step {
				newer++
			}
		}
		if !slices.Contains(names, fmt.Sprintf("checkpoint-%d", step)) && newer < keep {
			t.lost++
			return fmt.Errorf("checkpoint-%d was there and is lost; %s holds %v", step, t.run, names)
		}
	}
	return nil
}

// finished compares a run that has come to its end with the undisturbed one, and ends the round.
func (t *torture) finished(r *recipe, p *process, s *seen) error {
	if err := p.waited(); err != nil {
		return err
	}
	if p.code() != 0 {
		return fmt.Errorf("the command ended with %d: %s", p.code(), p.log())
	}
	if err := t.check(p, s); err != nil {
		return err
	}
	t.rounds++
	if err := compare(r.reference, t.run); err != nil {
		return fmt.Errorf("%s differs from %s: %w", t.run, r.reference, err)
	}
	t.equal++
	dir := t.run
	t.run = ""
	return os.RemoveAll(dir)
}

// waited takes the end of a process that may have been waited for.
func (p *process) waited() error {
	if p.command.ProcessState != nil && len(p.done) == 0 {
		return nil
	}
	return p.wait()
}

// finish brings the round under way to its end.
func (t *torture) finish() error {
	if t.run == "" {
		return nil
	}
	r := t.recipes[t.rounds%len(t.recipes)]
	p, err := t.start(r, t.run)
	if err != nil {
		return err
	}
	t.lives++
	if err := p.wait(); err != nil {
		return err
	}
	s := &seen{published: map[int]bool{}}
	s.look(t.run)
	return t.finished(r, p, s)
}

// compare fails unless the results, the last checkpoints and the losses of two runs are the same to the bit.
func compare(want, got string) error {
	a, err := results(want)
	if err != nil {
		return err
	}
	b, err := results(got)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if !bytes.Equal(a[name], b[name]) {
			return fmt.Errorf("%s is not the same", name)
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("%d files, want %d", len(b), len(a))
	}
	return nil
}

func results(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		// Checkpoints of other steps may be those of stops.
		other := strings.HasPrefix(name, "checkpoint-") && name != fmt.Sprintf("checkpoint-%d", steps)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (other && filepath.Dir(name) == "." || name == "logs"): // events tell the time
			return filepath.SkipDir
		case entry.IsDir() ||
			slices.Contains([]string{"metrics.jsonl", "run.json", ".limner.lock", "diary.html"}, name):
			return nil
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	made, err := watch.ReadMetrics(dir)
	for _, p := range made {
		files["metrics"] = fmt.Appendf(files["metrics"], "%d %d %x %x\n", p.Step, p.Images, p.Loss, p.GradNorm)
	}
	return files, err
}
