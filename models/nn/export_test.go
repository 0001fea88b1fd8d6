package nn

// For tests of what the exported functions choose between.
var (
	Attention     = attention
	PartSize      = partSize
	GroupNormOnce = groupNormOnce
)
