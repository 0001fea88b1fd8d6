package watch

// telemetry is what is written of a run beside its checkpoints and its result. A disk that is full or fails does not
// end the run: what cannot be written is left out, which is said once of each kind, and the next of its kind is tried
// again.
type telemetry struct {
	logf func(format string, args ...any)
	kept map[string]*outage // by what was to be written
}

// outage is a kind of telemetry that could not be written at some time.
type outage struct {
	lost int  // how many of it were left out
	back bool // it could be written again, which was said
}

func newTelemetry(logf func(format string, args ...any)) *telemetry {
	return &telemetry{logf: logf, kept: map[string]*outage{}}
}

// try writes, and takes notice of a failure.
func (t *telemetry) try(what string, write func() error) {
	err := write()
	o := t.kept[what]
	switch {
	case err == nil && o != nil && !o.back:
		o.back = true
		t.logf("%s can be written again", what)
	case err != nil && o == nil:
		t.kept[what] = &outage{lost: 1}
		t.logf("%s cannot be written: %v\n  training goes on without it, and it is tried again", what, err)
	case err != nil:
		o.lost++
	}
}
