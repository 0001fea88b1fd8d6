package imaging

import "encoding/binary"

// huffman is a Huffman table of a JPEG as lookups by the next bits.
type huffman struct {
	// codes has, by the next codeBits, a code's length below its symbol; 0 where it is longer or there is none.
	codes [1 << codeBits]uint16
	// values has, by the next valueBits, what a code of coefficients and the value after it say together: the value's
	// bits from 8 on, the run of zeros before it from 4 on, and how long both are; 0 where they are longer.
	values [1 << valueBits]int32
	// The first code of each length that is too long, by 16 bits, and the symbol of the length's code 0.
	limits  [17]uint32
	offsets [17]int
	symbols []byte
	known   bool
}

const (
	codeBits  = 9
	valueBits = 10
	endOfData = -1 // in place of a symbol
)

// set makes the table of a DHT segment's counts of codes by length and their symbols. It fails for codes that do not
// fit their lengths.
func (h *huffman) set(counts, symbols []byte) bool {
	*h = huffman{symbols: symbols, known: true}
	code, index := uint32(0), 0
	for length := 1; length <= 16; length++ {
		n := int(counts[length-1])
		h.offsets[length] = index - int(code)
		for range n {
			if code >= 1<<length {
				return false
			}
			if length <= codeBits {
				first := code << (codeBits - length)
				for i := range uint32(1) << (codeBits - length) {
					h.codes[first+i] = uint16(symbols[index])<<8 | uint16(length)
				}
			}
			code, index = code+1, index+1
		}
		h.limits[length] = code << (16 - length)
		code <<= 1
	}
	for bits := range uint32(1 << valueBits) {
		symbol, length := h.lookup(bits << (16 - valueBits))
		if symbol == endOfData {
			continue
		}
		size := uint(symbol & 15)
		if length+size > valueBits {
			continue
		}
		value := int32(0)
		if size > 0 {
			value = coefficient(bits>>(valueBits-length-size)&(1<<size-1), size)
		}
		h.values[bits] = value<<8 | int32(symbol>>4)<<4 | int32(length+size)
	}
	return true
}

// lookup finds the code that begins 16 bits, and its length.
func (h *huffman) lookup(bits uint32) (symbol int, length uint) {
	if c := h.codes[bits>>(16-codeBits)&(1<<codeBits-1)]; c != 0 {
		return int(c >> 8), uint(c & 0xff)
	}
	for length := uint(1); length <= 16; length++ {
		if bits < h.limits[length] {
			return int(h.symbols[h.offsets[length]+int(bits>>(16-length))]), length
		}
	}
	return endOfData, 0
}

// coefficient is the number that so many bits of a coefficient stand for.
func coefficient(bits uint32, size uint) int32 {
	if bits < 1<<(size-1) {
		return int32(bits) - (1<<size - 1)
	}
	return int32(bits)
}

// bitReader reads bits of entropy-coded data in which no byte is stuffed. Beyond its end are zeros.
type bitReader struct {
	data []byte
	at   int    // of the next byte for bits
	bits uint64 // the next ones, from the highest on
	n    uint   // how many of them are there
}

// fill makes at least 32 bits available.
func (r *bitReader) fill() {
	if r.n >= 32 {
		return
	}
	if r.at+4 <= len(r.data) {
		r.bits |= uint64(binary.BigEndian.Uint32(r.data[r.at:])) << (32 - r.n)
	} else {
		for i := r.at; i < len(r.data); i++ {
			r.bits |= uint64(r.data[i]) << (56 - r.n - 8*uint(i-r.at))
		}
	}
	r.at, r.n = r.at+4, r.n+32
}

// left is how many bits are not read yet; fewer than none if more were than there are.
func (r *bitReader) left() int { return 8*(len(r.data)-r.at) + int(r.n) }

// zigzag is the place of each coefficient in a block, in the order of a scan.
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// block reads the coefficients of a block, which are zeros before; dc is the last block's first, and becomes this
// one's. It fails where there is no code, or one that a baseline file does not have.
func (r *bitReader) block(to *[64]int16, dc *int32, first, rest *huffman) bool {
	r.fill()
	symbol, length := first.lookup(uint32(r.bits >> 48))
	if symbol < 0 || symbol > 11 {
		return false
	}
	size := uint(symbol)
	if size > 0 {
		*dc += coefficient(uint32(r.bits<<length>>(64-size)), size)
	}
	r.bits, r.n = r.bits<<(length+size), r.n-length-size
	if *dc != int32(int16(*dc)) {
		return false
	}
	to[0] = int16(*dc)
	for k := 1; k < 64; k++ {
		r.fill()
		var run int
		var value int32
		if v := rest.values[r.bits>>(64-valueBits)]; v != 0 {
			length, run, value = uint(v&15), int(v>>4&15), v>>8
		} else {
			symbol, codeLength := rest.lookup(uint32(r.bits >> 48))
			if symbol < 0 {
				return false
			}
			size := uint(symbol & 15)
			if size > 0 {
				value = coefficient(uint32(r.bits<<codeLength>>(64-size)), size)
			}
			length, run = codeLength+size, symbol>>4
		}
		r.bits, r.n = r.bits<<length, r.n-length
		if value == 0 {
			switch run {
			case 0: // the rest of the block is zeros
				return true
			case 15: // sixteen zeros
				k += 15
				continue
			}
			return false
		}
		if k += run; k > 63 {
			return false
		}
		to[zigzag[k]] = int16(value)
	}
	return true
}
