package data

import "sort"

// The order of an epoch: pieces (parts of row groups) are permuted and gathered into buckets of
// bounded size, and the rows of a bucket are permuted. Both permutations are keyed by the seed and
// the epoch, so the row at any position follows from (seed, epoch, position, files) alone. A dataset
// that fits the buffer is one bucket, hence shuffled as a whole.

// piece is a run of rows of one row group, the unit that is read at once.
type piece struct {
	table, group int
	first, rows  int64 // within the row group
	start        int64 // of its first row in the dataset
	bytes        int64 // of the columns that are read, about
	repeats      int64 // how often each row is in an epoch
}

// splitGroup cuts a row group into pieces of about limit bytes.
func splitGroup(p piece, limit int64) []piece {
	parts := min(max((p.bytes+limit-1)/limit, 1), max(p.rows, 1))
	list := make([]piece, 0, parts)
	for i := range parts {
		first, end := p.rows*i/parts, p.rows*(i+1)/parts
		if first == end {
			continue
		}
		list = append(list, piece{
			table: p.table, group: p.group, first: p.first + first, rows: end - first,
			start: p.start + first, bytes: p.bytes/parts + 1, repeats: p.repeats,
		})
	}
	return list
}

// bucket is a set of pieces whose rows are shuffled together.
type bucket struct {
	start  int64   // position of its first row in the epoch
	pieces []int   // in ascending order of cumulative rows
	ends   []int64 // ends[i]: rows of pieces[:i+1]
	order  permutation
}

// epochOrder is the order of the rows in one epoch.
type epochOrder struct {
	epoch   int
	pieces  []piece
	buckets []bucket
}

// Purposes of keyed permutations.
const (
	orderOfPieces = iota + 1
	orderOfRows
)

// newEpochOrder lays out an epoch in buckets of at most limit bytes, or one piece.
func newEpochOrder(pieces []piece, seed uint64, epoch int, limit int64) *epochOrder {
	o := &epochOrder{epoch: epoch, pieces: pieces}
	byPiece := newPermutation(uint64(len(pieces)), seed, uint64(epoch), orderOfPieces)
	var position, size int64
	for i := range pieces {
		at := int(byPiece.at(uint64(i)))
		p := pieces[at]
		if len(o.buckets) == 0 || size+p.bytes > limit {
			o.buckets = append(o.buckets, bucket{start: position})
			size = 0
		}
		b := &o.buckets[len(o.buckets)-1]
		size += p.bytes
		position += p.rows * p.repeats
		b.pieces = append(b.pieces, at)
		b.ends = append(b.ends, position-b.start)
	}
	for i := range o.buckets {
		b := &o.buckets[i]
		b.order = newPermutation(uint64(b.ends[len(b.ends)-1]), seed, uint64(epoch), orderOfRows, uint64(i))
	}
	return o
}

// at is the piece, and the row within it, at a position of the epoch, and which of the row's repetitions it is, from 0.
func (o *epochOrder) at(position int64) (pieceIndex int, row, repetition int64) {
	b := &o.buckets[sort.Search(len(o.buckets), func(i int) bool { return o.buckets[i].start > position })-1]
	row = int64(b.order.at(uint64(position - b.start)))
	i := sort.Search(len(b.ends), func(i int) bool { return b.ends[i] > row })
	if i > 0 {
		row -= b.ends[i-1]
	}
	rows := o.pieces[b.pieces[i]].rows
	return b.pieces[i], row % rows, row / rows
}
