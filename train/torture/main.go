// Command torture kills and stops real training runs at random moments, and fails if anything published is lost or a
// run that was killed ends with other weights than one that was not.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// options are what to do.
type options struct {
	limner string // the command's path
	dir    string // for models, datasets and runs; new or empty
	kills  int    // half of them at any moment, half while it writes
	stops  int    // SIGTERMs and SIGINTs
	seed   uint64
	log    io.Writer
}

func main() {
	o := options{log: os.Stderr}
	flag.StringVar(&o.limner, "limner", "bin/limner", "the command to torture")
	flag.StringVar(&o.dir, "dir", "",
		"folder for everything; without it, a temporary one that is removed if nothing was lost")
	flag.IntVar(&o.kills, "kills", 200, "kills -9, half of them while it writes")
	flag.IntVar(&o.stops, "stops", 100, "signals that ask to stop")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the moments")
	flag.Parse()
	report, err := run(context.Background(), o)
	fmt.Print(report)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// run tortures and returns a table. It fails if anything was lost.
func run(ctx context.Context, o options) (report string, err error) {
	fmt.Fprintf(o.log, "seed %d\n", o.seed)
	if o.limner, err = filepath.Abs(o.limner); err != nil {
		return "", err
	}
	temporary := o.dir == ""
	if temporary {
		if o.dir, err = os.MkdirTemp("", "torture-"); err != nil {
			return "", err
		}
	}
	t := &torture{options: o, rng: rand.New(rand.NewPCG(o.seed, 0)), saveTime: 20 * time.Millisecond}
	if err := t.prepare(ctx); err != nil {
		return "", err
	}
	start := time.Now()
	if err := t.all(); err != nil {
		return t.table(time.Since(start)), fmt.Errorf("%w\nthe runs are in %s", err, o.dir)
	}
	if temporary {
		err = os.RemoveAll(o.dir)
	}
	return t.table(time.Since(start)), err
}

// all does every kind of ending until there were enough of it. The kinds take turns, and so do the recipes.
func (t *torture) all() error {
	for {
		var end ending
		switch {
		case t.inside < t.kills/2 && t.inside <= t.anywhere:
			end = killInside
		case t.anywhere < t.kills-t.kills/2:
			end = killAnywhere
		case t.inside < t.kills/2:
			end = killInside
		case t.stopped < t.stops:
			end = stop
		case t.left < (t.stops+9)/10:
			end = stopTwice
		default:
			return t.finish()
		}
		if err := t.live(end); err != nil {
			return err
		}
		if n := t.lives; n%10 == 0 {
			fmt.Fprintf(t.log, "%d lives: %d kills anywhere, %d while writing, %d stops, %d rounds\n",
				n, t.anywhere, t.inside, t.stopped, t.rounds)
		}
	}
}

func (t *torture) table(took time.Duration) string {
	var b writer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "kills -9 at any moment\t%d\n", t.anywhere)
	fmt.Fprintf(w, "kills -9 while writing\t%d\n", t.inside)
	fmt.Fprintf(w, "signals to stop\t%d\t(%d saved, %d with nothing new to save)\n",
		t.stopped, t.stoppedSaved, t.stopped-t.stoppedSaved)
	fmt.Fprintf(w, "second signals\t%d\t(slowest exit %.2f s)\n", t.left, t.slowest.Seconds())
	fmt.Fprintf(w, "checkpoints read back whole\t%d\n", t.verified)
	fmt.Fprintf(w, "published checkpoints lost\t%d\n", t.lost)
	fmt.Fprintf(w, "runs equal to unkilled ones\t%d of %d\n", t.equal, t.rounds)
	fmt.Fprintf(w, "lives\t%d in %.0f s, seed %d\n", t.lives, took.Seconds(), t.seed)
	_ = w.Flush()
	return string(b)
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}
