package clip

import "container/heap"

// pair is two neighbouring tokens.
type pair struct{ left, right int32 }

// merge says what a pair becomes; a lower rank is applied first.
type merge struct {
	rank int
	id   int32
}

// byteRunes gives the rune that represents each byte in vocabularies, and the bytes in CLIP's order of ids: bytes that
// print in Latin-1 represent themselves, the others follow as runes from 256 up.
func byteRunes() (runes [256]rune, order [256]byte) {
	n := 0
	for b := range 256 {
		if printable(b) {
			runes[b], order[n] = rune(b), byte(b)
			n++
		}
	}
	shift := n
	for b := range 256 {
		if !printable(b) {
			runes[b], order[n] = rune(256+n-shift), byte(b)
			n++
		}
	}
	return runes, order
}

func printable(b int) bool {
	return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae && b <= 0xff
}

// alphabet is byteRunes' first result.
var alphabet, _ = byteRunes()

// byteOf is the inverse of alphabet.
func byteOf(r rune) (byte, bool) {
	if r < 256 && printable(int(r)) {
		return byte(r), true
	}
	for b, stand := range alphabet {
		if stand == r {
			return byte(b), true
		}
	}
	return 0, false
}

// symbol is a token of a word that is being merged, in a doubly linked list. A symbol that was merged
// into the one before it is dead.
type symbol struct {
	id         int32
	prev, next int // -1 at the ends
	dead       bool
}

// candidate is a merge that is possible, or was, at a symbol and the one after it.
type candidate struct {
	merge
	at int
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].at < c[j].at
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// appendWord appends the tokens of one word: its bytes, the last one marked as the end, merged by the
// lowest rank first and from the left, until no merge is left. It takes n·log n steps.
func (t *Tokenizer) appendWord(ids []int32, word string) []int32 {
	symbols := make([]symbol, len(word))
	for i := range len(word) {
		piece := string(alphabet[word[i]])
		next := i + 1
		if next == len(word) {
			piece, next = piece+wordEnd, -1
		}
		id, ok := t.ids[piece]
		if !ok {
			id = t.special.unk
		}
		symbols[i] = symbol{id: id, prev: i - 1, next: next}
	}

	var queue candidates
	offer := func(at int) {
		if at < 0 || symbols[at].next < 0 {
			return
		}
		if m, ok := t.merges[pair{symbols[at].id, symbols[symbols[at].next].id}]; ok {
			heap.Push(&queue, candidate{m, at})
		}
	}
	for i := range symbols {
		offer(i)
	}
	for queue.Len() > 0 {
		c := heap.Pop(&queue).(candidate)
		left := &symbols[c.at]
		if left.dead || left.next < 0 {
			continue
		}
		right := &symbols[left.next]
		if t.merges[pair{left.id, right.id}] != c.merge { // one of the two has changed since
			continue
		}
		left.id, left.next, right.dead = c.id, right.next, true
		if left.next >= 0 {
			symbols[left.next].prev = c.at
		}
		offer(left.prev)
		offer(c.at)
	}
	for _, s := range symbols {
		if !s.dead {
			ids = append(ids, s.id)
		}
	}
	return ids
}
