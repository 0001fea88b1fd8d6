package noise

import "math"

// logarithms of positive float32 values, as numpy computes them: by a rational function that is off by up to two units
// in the last place. The timesteps of spread noise levels, which are inputs of the network, depend on those bits.
func logarithms(x []float32) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = log32(v)
	}
	return out
}

// log32 is log(m·2^e) = log m + e·log 2 with m in (√½, √2], and log m = (m-1)·P(m-1)/Q(m-1), with the coefficients of
// numpy.
func log32(x float32) float32 {
	fraction, exponent := math.Frexp(float64(x)) // in [½, 1)
	if float32(2*fraction) <= float32(math.Sqrt2) {
		fraction, exponent = 2*fraction, exponent-1
	}
	m := float32(fraction) - 1
	p, q := float32(2.589979117907922693523e-02), float32(5.875095403124574342950e-03)
	for _, c := range [][2]float32{
		{3.808837741388407920751e-01, 1.546476374983906719538e-01},
		{1.480000633576506585156e+00, 9.864942958518418960339e-01},
		{2.112677543073053063722e+00, 2.453006071784736363091e+00},
		{9.999999999999998702752e-01, 2.612677543073109236779e+00},
		{0, 1},
	} {
		p, q = fma32(p, m, c[0]), fma32(q, m, c[1])
	}
	return fma32(float32(exponent), float32(math.Ln2), p/q)
}

// fma32 is x·y + z, rounded once.
func fma32(x, y, z float32) float32 { return float32(float64(x)*float64(y) + float64(z)) }
