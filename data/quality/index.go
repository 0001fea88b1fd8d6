package quality

import "math/bits"

const (
	// hashDistance is in how many bits the hashes of two pictures that look the same differ at most.
	hashDistance = 7
	// bands are the parts of a hash by which prints are found: of 4 bands at least one has at most one of 7 wrong bits.
	bands, bandBits = 4, 16
	// mostCompared bounds how many hashes one search looks at. Only among many pictures that resemble each other are
	// there more; then those that were added last are looked at.
	mostCompared = 1 << 14
)

// Index finds pictures that were seen before by their prints. A million pictures take about 200 MB, and a search in
// them a tenth of a millisecond. The zero value is empty. One goroutine may use it at a time.
type Index struct {
	exact  map[[16]byte]int32
	prints []Print
	rows   []int
	hashes []uint64 // of the prints, close together
	band   [bands][1 << bandBits][]int32
}

// Match is a picture that was found.
type Match struct {
	Row   int  // what Find or Add was given for the first such picture
	Exact bool // every pixel is the same
}

// Find looks for a picture that looks the same as that of a print, see [Print.Same]: of the same pixels or, if there is
// none, that with the nearest hash, the first among equals.
func (x *Index) Find(p *Print) (m Match, found bool) {
	if at, ok := x.exact[p.Sum]; ok {
		return Match{Row: x.rows[at], Exact: true}, true
	}
	best, at := hashDistance+1, int32(0)
	left := mostCompared
	for b := range bands {
		key := uint16(p.Hash >> (b * bandBits))
		for flip := -1; flip < bandBits; flip++ {
			if flip >= 0 {
				key ^= 1 << flip
			}
			list := x.band[b][key]
			for i := len(list) - 1; i >= 0 && left > 0; i-- {
				left--
				e := list[i]
				distance := bits.OnesCount64(x.hashes[e] ^ p.Hash)
				if distance < best || distance == best && e < at {
					if p.sameColours(&x.prints[e]) {
						best, at = distance, e
					}
				}
			}
			if flip >= 0 {
				key ^= 1 << flip
			}
		}
	}
	if best > hashDistance {
		return Match{}, false
	}
	return Match{Row: x.rows[at]}, true
}

// Add remembers a picture as that of a row.
func (x *Index) Add(row int, p *Print) {
	if x.exact == nil {
		x.exact = map[[16]byte]int32{}
	}
	at := int32(len(x.prints))
	if _, ok := x.exact[p.Sum]; !ok {
		x.exact[p.Sum] = at
	}
	x.prints, x.rows, x.hashes = append(x.prints, *p), append(x.rows, row), append(x.hashes, p.Hash)
	for b := range bands {
		key := uint16(p.Hash >> (b * bandBits))
		x.band[b][key] = append(x.band[b][key], at)
	}
}
