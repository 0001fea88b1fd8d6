package data

import "math/bits"

// permutation is a keyed bijection of [0, n): a Feistel network over the smallest even number of bits that holds n,
// walked along its cycle until it lands below n (Black and Rogaway 2002). It needs no memory, so any position of any
// epoch's order is computed directly.
type permutation struct {
	n    uint64
	half uint // bits of each half
	keys [8]uint64
}

// newPermutation returns the permutation of [0, n) for the keys, for n of at most 2^62.
func newPermutation(n uint64, keys ...uint64) permutation {
	p := permutation{n: n, half: 1}
	if n > 1 {
		p.half = uint(bits.Len64(n-1)+1) / 2
	}
	state := uint64(len(keys))
	for _, k := range keys {
		state = mix64(state ^ mix64(k))
	}
	for i := range p.keys {
		state += 0x9e3779b97f4a7c15
		p.keys[i] = mix64(state)
	}
	return p
}

// at maps position i, below n, to the index at that position.
func (p permutation) at(i uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	for {
		left, right := i>>p.half, i&mask
		for _, k := range p.keys {
			left, right = right, left^(mix64(right^k)&mask)
		}
		if i = left<<p.half | right; i < p.n {
			return i
		}
	}
}

// mix64 is the finaliser of SplitMix64: every bit of x affects every bit of the result.
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
