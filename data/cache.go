package data

import "sync"

// pieceCache holds the rows of the most recently used pieces, up to about limit bytes by the pieces' own estimate. A
// piece that several goroutines ask for is read once.
type pieceCache struct {
	limit int64
	load  func(index int) []rawRow

	mu      sync.Mutex
	bytes   int64
	clock   int64
	entries map[int]*cacheEntry
}

type cacheEntry struct {
	rows  func() []rawRow
	bytes int64
	used  int64
}

func newPieceCache(limit int64, load func(index int) []rawRow) *pieceCache {
	return &pieceCache{limit: limit, load: load, entries: map[int]*cacheEntry{}}
}

// get returns the rows of a piece of about the given bytes.
func (c *pieceCache) get(index int, bytes int64) []rawRow {
	c.mu.Lock()
	c.clock++
	e := c.entries[index]
	if e == nil {
		e = &cacheEntry{bytes: bytes, rows: sync.OnceValue(func() []rawRow { return c.load(index) })}
		c.entries[index] = e
		c.bytes += bytes
	}
	e.used = c.clock
	for c.bytes > c.limit && len(c.entries) > 1 {
		oldest := -1
		for i, o := range c.entries {
			if o != e && (oldest < 0 || o.used < c.entries[oldest].used) {
				oldest = i
			}
		}
		c.bytes -= c.entries[oldest].bytes
		delete(c.entries, oldest)
	}
	c.mu.Unlock()
	return e.rows()
}
