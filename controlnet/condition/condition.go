// Package condition takes conditioning images from images, and measures how well images follow them. It maps images to
// images: it builds no graph and reads no file.
//
// A [Spec] is what a user writes, such as canny(low=rand(50, 90)): a kind of condition and its parameters, some of them
// random. [Spec.Draw] makes a [Condition] of it, whose parameters are numbers, and whose text a record keeps.
package condition

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"limner/data/imaging"
)

// Range is the value of a parameter: a number, or one drawn evenly between two.
type Range struct{ Low, High float64 }

// fixed is the range of one number.
func fixed(v float64) Range { return Range{v, v} }

// Parameter is a parameter of a kind of condition.
type Parameter struct {
	Name        string
	Help        string
	Default     Range
	Least, Most float64  // bounds of its values, both allowed
	Whole       bool     // its values are whole numbers
	Words       []string // what its values 0, 1, … are called; nil: they are numbers
}

// Kind is a kind of condition: a name and what its parameters may be.
type Kind struct {
	Name       string
	Help       string // what it shows, in a line
	Parameters []Parameter
	Lines      bool // white lines on black, which Agreement can compare
	Hides      bool // some of its pixels are hidden, see Condition.Hidden: an image of 8 bits cannot hold it
	Keypoints  bool // drawn from keypoints by Condition.Draw, not taken from an image

	// relation says what is wrong between parameters that are all in range; nil: nothing can be.
	relation func(s Spec) error
	apply    func(m *imaging.RGB, c Condition) *imaging.RGB
}

// Usage is the kind with its parameters and their defaults, as a user may write it.
func (k *Kind) Usage() string { return k.standard().String() }

// standard has the default parameters.
func (k *Kind) standard() Spec {
	s := Spec{kind: k, ranges: make([]Range, len(k.Parameters))}
	for i, p := range k.Parameters {
		s.ranges[i] = p.Default
	}
	return s
}

// index finds a parameter; -1 if there is none of that name.
func (k *Kind) index(name string) int {
	return slices.IndexFunc(k.Parameters, func(p Parameter) bool { return p.Name == name })
}

// Spec is a kind of condition with its parameters, some of which may be random. It comes from [Parse]; the zero Spec is
// none.
type Spec struct {
	kind   *Kind
	ranges []Range // of each parameter
}

// None is the text of no condition, which Parse does not take.
const None = "none"

// None says whether there is no condition.
func (s Spec) None() bool { return s.kind == nil }

// Kind is the kind of condition.
func (s Spec) Kind() *Kind { return s.kind }

// Random says whether conditions drawn for different rows may differ in their parameters.
func (s Spec) Random() bool {
	return slices.ContainsFunc(s.ranges, func(r Range) bool { return r.Low != r.High })
}

// get returns a parameter's range.
func (s Spec) get(name string) Range { return s.ranges[s.kind.index(name)] }

// String is the canonical text, with every parameter. Parse makes the same Spec of it.
func (s Spec) String() string {
	if s.None() || len(s.ranges) == 0 {
		return s.name()
	}
	parts := make([]string, len(s.ranges))
	for i, r := range s.ranges {
		p := s.kind.Parameters[i]
		value := p.text(r.Low)
		if r.Low != r.High {
			value = fmt.Sprintf("rand(%s, %s)", value, p.text(r.High))
		}
		parts[i] = p.Name + "=" + value
	}
	return s.name() + "(" + strings.Join(parts, ", ") + ")"
}

func (s Spec) name() string {
	if s.None() {
		return None
	}
	return s.kind.Name
}

// text is a value as it is written: the shortest text that reads as the same number.
func (p Parameter) text(v float64) string {
	if p.Words != nil {
		return p.Words[int(v)]
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// drawStream separates the draws of parameters from others of the same seed.
const drawStream = 0x636f6e64

// Draw draws the random parameters for a row of a dataset in an epoch. What is drawn depends on nothing else, and on
// each parameter alone: so training that takes conditions on the fly begins with those that a dataset built with the
// same seed has, and has new ones in every epoch.
func (s Spec) Draw(seed uint64, row int64, epoch int) Condition {
	rng := rand.New(rand.NewPCG(seed^drawStream, uint64(epoch)<<40^uint64(row)))
	c := Condition{kind: s.kind, values: make([]float64, len(s.ranges))}
	for i, r := range s.ranges {
		c.values[i] = s.kind.Parameters[i].between(r, rng.Float64())
	}
	return c
}

// between is the value at u, from 0 to 1, of a range: whole where the parameter's values are, else of at most four
// decimals, so that its text is short.
func (p Parameter) between(r Range, u float64) float64 {
	if p.Whole {
		return min(r.Low+math.Floor(u*(r.High-r.Low+1)), r.High)
	}
	const decimals = 1e4
	return min(max(math.Round((r.Low+u*(r.High-r.Low))*decimals)/decimals, r.Low), r.High)
}

// Condition is a kind of condition and the values of its parameters. It comes from [Spec.Draw].
type Condition struct {
	kind   *Kind
	values []float64
}

// String is the canonical text, with every parameter. Parse makes of it a Spec that draws nothing but this condition.
func (c Condition) String() string {
	s := Spec{kind: c.kind, ranges: make([]Range, len(c.values))}
	for i, v := range c.values {
		s.ranges[i] = fixed(v)
	}
	return s.String()
}

// Kind is the kind of condition.
func (c Condition) Kind() *Kind { return c.kind }

// get returns a parameter's value.
func (c Condition) get(name string) float64 { return c.values[c.kind.index(name)] }

// Apply takes the condition from an image. It has the image's size, and the image is not changed.
func (c Condition) Apply(m *imaging.RGB) (*imaging.RGB, error) {
	if c.kind == nil {
		return nil, fmt.Errorf("condition %s: nothing to take from an image", c)
	}
	if m.Width < 1 || m.Height < 1 {
		return nil, fmt.Errorf("condition %s: the image of %d×%d pixels is empty", c.kind.Name, m.Width, m.Height)
	}
	if c.kind.Keypoints {
		return nil, fmt.Errorf("condition %s is drawn from keypoints, not taken from an image", c.kind.Name)
	}
	return c.kind.apply(m, c), nil
}
