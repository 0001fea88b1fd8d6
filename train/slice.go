package train

import (
	"context"
	"fmt"

	"limner/xla"
)

// processes are those that make a run together, in step; most runs have one. Nothing else here knows of more than one.
type processes struct{ backend *xla.Backend }

// processesOf are the processes whose devices a backend has.
func processesOf(b *xla.Backend) processes { return processes{b} }

func (r *Run) processes() processes { return processesOf(r.Backend) }

// leads says whether this process writes what the run makes: alone, or as the first of several. The others compute and
// read.
func (p processes) leads() bool { return p.backend.Process().Leads() }

// alone says whether there is no other.
func (p processes) alone() bool { return p.backend.Process().Alone() }

// part says which part of each batch this process reads: part n of so many.
func (p processes) part() (n, of int) {
	process := p.backend.Process()
	return process.Index, process.Count
}

// bound is ctx, or, beside others, one that nothing cancels: who leaves what all do together leaves the others waiting.
func (p processes) bound(ctx context.Context) context.Context { return p.backend.Bound(ctx) }

// agree gives all processes the error of any of them. Each calls it at the same place.
func (p processes) agree(err error) error { return p.backend.Together(err) }

// lead does what only one process does. Its error is that of all.
func (p processes) lead(do func() error) (err error) {
	if p.leads() {
		err = do()
	}
	return p.agree(err)
}

// stopping reports whether the run is to stop before the next step, since any of its processes was interrupted. An
// error of one of them is that of all.
func (p processes) stopping(interrupted bool, err error) (bool, error) {
	if err := p.agree(err); err != nil {
		return false, err
	}
	stop := int32(0)
	if interrupted {
		stop = 1
	}
	_, any, err := p.backend.Range(stop)
	return any > 0, err
}

// least is the smallest of the numbers that the processes have.
func (p processes) least(n int) (int, error) {
	least, _, err := p.backend.Range(int32(n))
	return int(least), err
}

// sameStep fails where the processes go on from other steps of the run in an output folder, or one had an error.
func (p processes) sameStep(step int, outputDir string, err error) error {
	if err := p.agree(err); err != nil {
		return err
	}
	least, greatest, err := p.backend.Range(int32(step))
	if err == nil && least != greatest {
		err = fmt.Errorf("the machines of this run see checkpoints of other steps, %d to %d, in %s: "+
			"it must be a folder that all of them share",
			least, greatest, outputDir)
	}
	return err
}
