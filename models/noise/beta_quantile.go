package noise

import "math"

// betaQuantile is the x below which the beta distribution of parameters a and b has probability p.
func betaQuantile(p, a, b float64) float64 {
	if p <= 0 || p >= 1 {
		return min(max(p, 0), 1)
	}
	low, high := 0.0, 1.0
	for {
		x := (low + high) / 2
		if x == low || x == high {
			return x
		}
		if betaProbability(x, a, b) < p {
			low = x
		} else {
			high = x
		}
	}
}

// betaProbability is the regularized incomplete beta function I_x(a, b), by its continued fraction, which converges
// quickly on the near side of the mean (Abramowitz and Stegun 1964, 26.5.8 and 26.5.2).
func betaProbability(x, a, b float64) float64 {
	if x > (a+1)/(a+b+2) {
		return 1 - betaProbability(1-x, b, a)
	}
	if x <= 0 {
		return 0
	}
	logA, _ := math.Lgamma(a)
	logB, _ := math.Lgamma(b)
	logAB, _ := math.Lgamma(a + b)
	front := math.Exp(logAB-logA-logB+a*math.Log(x)+b*math.Log1p(-x)) / a
	return front * betaFraction(x, a, b)
}

// betaFraction evaluates the continued fraction 1/(1+ d₁/(1+ d₂/(1+ …))) by Lentz's method.
func betaFraction(x, a, b float64) float64 {
	const tiny, terms = 1e-300, 300
	nonzero := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/nonzero(1-(a+b)*x/(a+1))
	f := d
	for m := 1.0; m < terms; m++ {
		for _, numerator := range []float64{
			m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m)),
			-(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1)),
		} {
			d = 1 / nonzero(1+numerator*d)
			c = nonzero(1 + numerator/c)
			f *= c * d
		}
		if math.Abs(c*d-1) < 1e-16 {
			break
		}
	}
	return f
}
