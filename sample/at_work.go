package sample

import (
	"limner/sample/schedule"
)

// stepKey is the key of a request's call of a schedule. As in diffusers, a first ControlNet with global_pool_conditions
// has guess mode on.
func (p *Pipeline) stepKey(r Request, sched schedule.Schedule, call, chunks int) stepKey {
	key := stepKey{
		guidance: guided(r.GuidanceScale), chunks: chunks, controls: p.atWork(r, call, len(sched.Calls)),
		masked: r.Masks != nil || p.model.inpaints(), threshold: sched.Threshold,
	}
	key.rescale = key.guidance && r.GuidanceRescale > 0
	key.guess = key.controls != 0 && p.guesses(r)
	return key
}

// guesses says whether ControlNets at work are in guess mode.
func (p *Pipeline) guesses(r Request) bool {
	nets := p.model.ControlNets
	return len(nets) > 0 && (r.GuessMode || nets[0].GlobalPoolConditions)
}

// atWork says which ControlNets have a say in a call: bit i is set for ControlNet i. One whose scale is 0 is computed
// like any other, so that a scale never changes the program.
func (p *Pipeline) atWork(r Request, call, calls int) uint64 {
	var at uint64
	for i := range p.model.ControlNets {
		first, last := float64(call)/float64(calls), float64(call+1)/float64(calls)
		if first >= nth(r.ControlGuidanceStart, i, 0) && last <= nth(r.ControlGuidanceEnd, i, 1) {
			at |= 1 << i
		}
	}
	return at
}

func (p *Pipeline) projectionKey(r Request, chunks int) projectionKey {
	return projectionKey{guidance: guided(r.GuidanceScale), guess: p.guesses(r), chunks: chunks}
}
