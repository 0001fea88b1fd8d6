package cpu

// For tests outside the package, which need devices.
const (
	Quad = quad
)

var (
	Kept       = kept
	MatrixUnit = matrixUnit
)
