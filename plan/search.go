package plan

import "context"

// Largest finds the largest batch per chip that fits, by compiling, and returns its report; nil if none fits. from is a
// report of the job, and most limits the number of compilations: if they do not suffice, the result is the largest
// batch found to fit.
func (p Planner) Largest(ctx context.Context, job Job, from *Report, most int) (best *Report, err error) {
	fits, fails := 0, 0 // bounds found so far; 0: none
	note := func(r *Report) {
		if r.Fits {
			fits, best = max(fits, r.Variant.Batch), r
		} else if fails == 0 || r.Variant.Batch < fails {
			fails = r.Variant.Batch
		}
	}
	note(from)
	for range most {
		next := guess(best, fits, fails)
		if next == 0 {
			break
		}
		v := from.Variant
		v.Batch = next
		r, err := p.Compile(ctx, job, v)
		if err != nil {
			return nil, err
		}
		note(r)
	}
	return best, nil
}

// guess is the next batch to try between the largest that fits and the smallest that does not; 0 if there is none
// between.
func guess(best *Report, fits, fails int) int {
	if best == nil {
		return fails / 2
	}
	// The memory left, in images, if each takes as much as the temporaries of one do now.
	each := max(1, best.Classes["temporaries"]/int64(best.Variant.Batch))
	next := fits + max(1, int((best.HBM-best.Peak)/each))
	if fails > 0 && next >= fails {
		next = (fits + fails) / 2
	}
	if next <= fits {
		return 0
	}
	return next
}

// Advice compiles variants of a job that use less memory or less time than the report's, and returns their reports.
func (p Planner) Advice(ctx context.Context, job Job, from *Report) ([]*Report, error) {
	if !job.Training {
		return nil, nil
	}
	var all []*Report
	for _, change := range []func(*Variant) bool{
		func(v *Variant) bool { changed := !v.FSDP; v.FSDP = true; return changed && p.Topology.Chips() > 1 },
		func(v *Variant) bool { changed := !v.CachedLatents; v.CachedLatents = true; return changed },
		func(v *Variant) bool { changed := !v.Checkpointing; v.Checkpointing = true; return changed },
		func(v *Variant) bool {
			changed := v.Batch%2 == 0
			v.Batch, v.Accumulation = v.Batch/2, 2*max(1, v.Accumulation)
			return changed
		},
	} {
		v := from.Variant
		if !change(&v) {
			continue
		}
		r, err := p.Compile(ctx, job, v)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}
