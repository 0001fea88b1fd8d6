package check

import (
	"fmt"
	"maps"
	"slices"

	"limner/data/quality"
)

// pairs are the correlations of the edges of images and their conditions. What is usual differs with the condition: a
// Canny map follows all edges, a pose next to none. So a pair is judged by the others, and by what images and
// conditions have in common that do not belong together: those of one row and of the row before it.
type pairs struct {
	own, strange []float32 // the row's condition with its image, and with the image of the row before
	shifted      []float32 // the row's image with the condition of the row before
	previous     *measured // of the split; its pictures are dropped
	worst        []pair    // with the lowest correlations, in ascending order
	turned       []pair    // that fit much better when the condition is turned
	turns        map[quality.Turn]int
	missing      int // pairs without edges in one of both, which are not compared
}

// pair is an image with its condition.
type pair struct {
	correlation float64
	row         Example
}

// Bounds for pairs.
const (
	// A condition is turned if its edges then fit this much better, and this well.
	turnedBetter, turnedWell = 0.25, 0.4
	// enoughPairs is how many there must be for the others to say what is usual.
	enoughPairs = 16
	// followed is by how much a condition correlates more with its own image than with another where conditions
	// follow edges at all.
	followed = 0.15
)

// add adds row i of the split.
func (p *pairs) add(t *tally, i int, m *measured) {
	if m.image.None() || m.condition.None() {
		p.missing++
		return
	}
	p.own = append(p.own, float32(m.correlation))
	if before := p.previous; before != nil {
		p.strange = append(p.strange, float32(before.image.Correlation(m.condition)))
		p.shifted = append(p.shifted, float32(m.image.Correlation(before.condition)))
	}
	p.previous = &measured{image: m.image, condition: m.condition}
	if len(p.worst) < shownRows || m.correlation < p.worst[len(p.worst)-1].correlation {
		at, _ := slices.BinarySearchFunc(p.worst, m.correlation, func(q pair, c float64) int {
			if q.correlation <= c {
				return -1
			}
			return 1
		})
		detail := fmt.Sprintf("correlation %.2f", m.correlation)
		p.worst = slices.Insert(p.worst, at, pair{m.correlation, t.example(i, m.row, detail)})
		p.worst = p.worst[:min(len(p.worst), shownRows)]
	}
	if m.turn != 0 && m.turned >= turnedWell && m.turned >= m.correlation+turnedBetter {
		if p.turns == nil {
			p.turns = map[quality.Turn]int{}
		}
		if p.turns[m.turn]++; len(p.turned) < shownRows {
			p.turned = append(p.turned, pair{m.correlation, t.example(i, m.row, fmt.Sprintf(
				"correlation %.2f, and %.2f when %v", m.correlation, m.turned, m.turn))})
		}
	}
}

// judged is what the pairs say together.
type judged struct {
	usual, strange float64 // medians
	follows        bool    // conditions follow the edges of their images
	shifted        bool    // conditions follow those of the row before or after
	limit          float64 // pairs below it are like strangers
	below          int
}

// judge judges the pairs by each other.
func (p *pairs) judge() judged {
	j := judged{usual: median(p.own), strange: median(p.strange)}
	if len(p.own) < enoughPairs {
		return j
	}
	j.follows = j.usual >= j.strange+followed
	next := median(p.shifted)
	j.shifted = !j.follows && max(j.strange, next) >= j.usual+followed
	if !j.follows {
		return j
	}
	j.limit = j.strange + (j.usual-j.strange)/4
	for _, c := range p.own {
		if float64(c) < j.limit {
			j.below++
		}
	}
	return j
}

// median leaves the values in their order.
func median(values []float32) float64 {
	all := make([]float64, len(values))
	for i, v := range values {
		all[i] = float64(v)
	}
	return quality.Median(all)
}

// mostTurned is the turn that most of the turned conditions have, and how many have it.
func (p *pairs) mostTurned() (turn quality.Turn, n int) {
	for _, t := range slices.Sorted(maps.Keys(p.turns)) {
		if p.turns[t] > n {
			turn, n = t, p.turns[t]
		}
	}
	return turn, n
}
