package nn

// For the tests of attention in parts.
var (
	Attention = attention
	PartSize  = partSize
)
