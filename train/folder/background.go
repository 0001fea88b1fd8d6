package folder

import (
	"errors"
	"fmt"
	"time"

	"limner/models/nn"
)

// SavePauses are the times between the tries of a save. A disk that is full is mostly so for a while: something else is
// cleared, or somebody reads the log.
var SavePauses = []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute}

// Background saves checkpoints from snapshots while training goes on, one at a time.
type Background struct {
	Save   func(values nn.Values, state State) error
	Before func() // comes before a snapshot; nil does nothing
	Logf   func(format string, args ...any)
	Agree  func(error) error // before a snapshot, see xla.Backend.Together
	Last   int               // step of the newest checkpoint known to be whole
	step   int               // of the save under way
	result chan outcome      // of the save under way; nil when there is none
	failed chan error        // of its tries that are followed by another
	stall  time.Duration     // in which training stood still for it

	Pauses []time.Duration // between the tries of a save
	Hurry  <-chan struct{} // when it is closed, tries follow each other without a pause
}

type outcome struct {
	err  error
	took time.Duration
}

// Start takes a snapshot and saves it in the background, after the save before, if that is still under way. Its error
// is that of the save before or of the snapshot.
func (b *Background) Start(state State, snapshot func() (nn.Values, error)) error {
	begin := time.Now()
	if b.Before != nil {
		b.Before()
	}
	if b.result != nil && len(b.result) == 0 {
		b.Logf("checkpoint-%d waits for checkpoint-%d to be saved", state.Step, b.step)
	}
	if err := b.Agree(b.Wait()); err != nil {
		return err
	}
	values, err := snapshot()
	if err != nil {
		return fmt.Errorf("save checkpoint-%d: %w", state.Step, err)
	}
	b.step, b.stall = state.Step, time.Since(begin)
	b.result, b.failed = make(chan outcome, 1), make(chan error, len(b.Pauses))
	go b.tries(values, state, b.result, b.failed)
	return nil
}

// tries saves, and tries again after each pause where that fails.
func (b *Background) tries(values nn.Values, state State, result chan<- outcome, failed chan<- error) {
	begin := time.Now()
	err := b.Save(values, state)
	for _, pause := range b.Pauses {
		if err == nil || errors.As(err, new(*notPruned)) {
			break
		}
		select {
		case <-b.Hurry:
			failed <- fmt.Errorf("%w\n  it is tried again at once", err)
		default:
			failed <- fmt.Errorf("%w\n  training goes on, and it is tried again in %s", err, pause)
			select {
			case <-time.After(pause):
			case <-b.Hurry:
			}
		}
		err = b.Save(values, state)
	}
	result <- outcome{err, time.Since(begin)}
}

// Poll returns the error of a save that has ended since it was last asked, and tells the log of tries that failed.
func (b *Background) Poll() error {
	for len(b.failed) > 0 {
		b.tell(<-b.failed)
	}
	if len(b.result) == 0 {
		return nil
	}
	return b.Wait()
}

// tell tells the log of a try that failed.
func (b *Background) tell(err error) { b.Logf("%v; %s", err, b.kept()) }

// kept says what is saved whatever becomes of the save under way.
func (b *Background) kept() string {
	if b.Last == 0 {
		return "no checkpoint is saved yet"
	}
	return fmt.Sprintf("checkpoint-%d is saved and whole", b.Last)
}

// Wait waits for the save under way, if there is one, and returns its error.
func (b *Background) Wait() error {
	if b.result == nil {
		return nil
	}
	var o outcome
	for ended := false; !ended; {
		select {
		case err := <-b.failed:
			b.tell(err)
		case o = <-b.result:
			ended = true
		}
	}
	for len(b.failed) > 0 { // what came just before the end
		b.tell(<-b.failed)
	}
	b.result, b.failed = nil, nil
	if errors.As(o.err, new(*notPruned)) {
		b.Logf("%v\n  the next save tries again", o.err)
	} else if o.err != nil {
		return fmt.Errorf("%w\ntried %d times; %s", o.err, 1+len(b.Pauses), b.kept())
	}
	b.Last = b.step
	b.Logf("checkpoint-%d saved in %.2f s; training stood still for %.2f s of it",
		b.step, o.took.Seconds()+b.stall.Seconds(), b.stall.Seconds())
	return nil
}
