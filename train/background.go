package train

import (
	"fmt"
	"time"

	"limner/models/nn"
)

// background saves checkpoints from snapshots while training goes on, one at a time.
type background struct {
	save   func(values nn.Values, state State) error
	logf   func(format string, args ...any)
	agree  func(error) error // before a snapshot, see xla.Backend.Together
	last   int               // step of the newest checkpoint known to be whole
	step   int               // of the save under way
	result chan outcome      // of the save under way; nil when there is none
	stall  time.Duration     // in which training stood still for it
}

type outcome struct {
	err  error
	took time.Duration
}

// start takes a snapshot and saves it in the background, after the save before, if that is still under way. Its error is
// that of the save before or of the snapshot.
func (b *background) start(state State, snapshot func() (nn.Values, error)) error {
	begin := time.Now()
	if b.result != nil && len(b.result) == 0 {
		b.logf("checkpoint-%d waits for checkpoint-%d to be saved", state.Step, b.step)
	}
	if err := b.agree(b.wait()); err != nil {
		return err
	}
	values, err := snapshot()
	if err != nil {
		return fmt.Errorf("save checkpoint-%d: %w", state.Step, err)
	}
	b.step, b.result, b.stall = state.Step, make(chan outcome, 1), time.Since(begin)
	go func(result chan<- outcome) {
		begin := time.Now()
		err := b.save(values, state)
		result <- outcome{err, time.Since(begin)}
	}(b.result)
	return nil
}

// poll returns the error of a save that has ended since it was last asked.
func (b *background) poll() error {
	if len(b.result) == 0 {
		return nil
	}
	return b.wait()
}

// wait waits for the save under way, if there is one, and returns its error.
func (b *background) wait() error {
	if b.result == nil {
		return nil
	}
	o := <-b.result
	b.result = nil
	if o.err != nil {
		return o.err
	}
	b.last = b.step
	b.logf("checkpoint-%d saved in %.2f s; training stood still for %.2f s of it", b.step, o.took.Seconds()+b.stall.Seconds(), b.stall.Seconds())
	return nil
}
