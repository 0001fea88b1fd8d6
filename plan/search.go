package plan

import "context"

// Largest finds the largest batch a chip that fits, by compiling, and returns its report; nil if none did. from is a
// report of the job, and most the number of compilations that may be spent: if they do not suffice, it is the largest
// of those that were found to fit.
func (p Planner) Largest(ctx context.Context, job Job, from *Report, most int) (best *Report, err error) {
	fits, fails := 0, 0 // the bounds found so far; 0 is none
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

// guess is the next batch to try between the largest that fits and the smallest that does not; 0 if nothing lies
// between.
func guess(best *Report, fits, fails int) int {
	if best == nil {
		return fails / 2
	}
	// What is left, in the images that would fill it if each took what the temporaries of one take now.
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

// Advice are variants of a job that use less memory, or less time, than a report's, each compiled.
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
