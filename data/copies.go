package data

import "bytes"

// copies copies values out of pages. Many rows may have one value of a dictionary, which is copied once: a small file
// could fill the memory with copies of one image.
type copies struct {
	all  map[*byte][]byte // by where the values lay when they were copied
	page map[*byte]bool   // which of them are known to lie there still
}

// newPage says that what lies in memory may be other values now.
func (c *copies) newPage() { c.page = map[*byte]bool{} }

// of is a copy of a value.
func (c *copies) of(raw []byte) []byte {
	if len(raw) == 0 {
		return []byte{}
	}
	at := &raw[0]
	if kept, ok := c.all[at]; ok && len(kept) == len(raw) && (c.page[at] || bytes.Equal(kept, raw)) {
		c.page[at] = true
		return kept
	}
	if c.all == nil {
		c.all = map[*byte][]byte{}
	}
	c.all[at], c.page[at] = bytes.Clone(raw), true
	return c.all[at]
}
