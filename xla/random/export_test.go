package random

// What the tests see of the generator's inside.
var (
	Threefry        = threefry
	UniformFromBits = uniformFromBits
	NormalFromBits  = normalFromBits
)
