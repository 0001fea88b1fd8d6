package data

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestPermutationIsBijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3000).Draw(t, "n")
		p := newPermutation(uint64(n), rapid.Uint64().Draw(t, "seed"), rapid.Uint64().Draw(t, "epoch"))
		seen := make([]bool, n)
		for i := range n {
			at := p.at(uint64(i))
			if at >= uint64(n) || seen[at] {
				t.Fatalf("n %d: position %d maps to %d, out of range or taken", n, i, at)
			}
			seen[at] = true
		}
	})
}

// Each index should stand at each place equally often, over many keys.
func TestPermutationIsUniform(t *testing.T) {
	const n, keys = 7, 7000
	var counts [n][n]int
	for key := range uint64(keys) {
		p := newPermutation(n, key)
		for i := range uint64(n) {
			counts[i][p.at(i)]++
		}
	}
	for i, row := range counts {
		for j, count := range row {
			if count < 850 || count > 1150 { // mean 1000, deviation 29
				t.Errorf("index %d stands at %d in %d of %d permutations", j, i, count, keys)
			}
		}
	}
}

func TestEpochOrderVisitsEveryRowAsOftenAsItCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(50, 5000).Draw(t, "limit")
		var pieces []piece
		var rows, places int64
		for g := range rapid.IntRange(1, 12).Draw(t, "groups") {
			p := piece{
				group: g, rows: rapid.Int64Range(1, 40).Draw(t, "rows"), start: rows,
				bytes: rapid.Int64Range(1, 3000).Draw(t, "bytes"), repeats: rapid.Int64Range(1, 3).Draw(t, "repeats"),
			}
			rows += p.rows
			pieces = append(pieces, splitGroup(p, limit)...)
		}
		end := int64(0)
		for _, p := range pieces {
			if p.start != end || p.rows < 1 {
				t.Fatalf("piece %+v does not follow row %d", p, end)
			}
			end += p.rows
			places += p.rows * p.repeats
		}
		if end != rows {
			t.Fatalf("the pieces hold %d of %d rows", end, rows)
		}
		order := newEpochOrder(pieces, 1, rapid.IntRange(0, 5).Draw(t, "epoch"), limit)
		type occurrence struct{ row, repetition int64 }
		seen := map[occurrence]bool{}
		for position := range places {
			index, within, repetition := order.at(position)
			p := pieces[index]
			at := occurrence{p.start + within, repetition}
			if within < 0 || within >= p.rows || repetition < 0 || repetition >= p.repeats || seen[at] {
				t.Fatalf("position %d: row %d of piece %d, out of range or taken", position, within, index)
			}
			seen[at] = true
		}
		for _, b := range order.buckets {
			var bytes int64
			for _, i := range b.pieces {
				bytes += pieces[i].bytes
			}
			if bytes > limit && len(b.pieces) > 1 {
				t.Fatalf("a bucket of %d bytes, limit %d", bytes, limit)
			}
		}
	})
}

func TestEpochsDiffer(t *testing.T) {
	pieces := []piece{{rows: 100, bytes: 1, repeats: 1}}
	list := func(seed uint64, epoch int) (rows []int64) {
		o := newEpochOrder(pieces, seed, epoch, 10)
		for i := range int64(100) {
			_, row, _ := o.at(i)
			rows = append(rows, row)
		}
		return rows
	}
	if slices.Equal(list(1, 0), list(1, 1)) || slices.Equal(list(1, 0), list(2, 0)) {
		t.Error("two epochs or seeds share an order")
	}
	if !slices.Equal(list(1, 3), list(1, 3)) {
		t.Error("an order is not a function of its key")
	}
}
