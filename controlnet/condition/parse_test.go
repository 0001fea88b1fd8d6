package condition

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"canny":                   "canny(low=100, high=200, blur=0, source=rgb, norm=l1)",
		" canny ( ) ":             "canny(low=100, high=200, blur=0, source=rgb, norm=l1)",
		"canny(low=50,high=50.5)": "canny(low=50, high=50.5, blur=0, source=rgb, norm=l1)",
		"canny(norm=l2, high=rand(150,250), low = rand( 50 , 150 ) )": "" +
			"canny(low=rand(50, 150), high=rand(150, 250), blur=0, source=rgb, norm=l2)",
		"canny(low=rand(5,5))": "canny(low=5, high=200, blur=0, source=rgb, norm=l1)",
		"canny(low=-0)":        "canny(low=0, high=200, blur=0, source=rgb, norm=l1)",
		"outline":              "outline",
		"outline()":            "outline",
	} {
		s, err := Parse(text)
		if err != nil || s.String() != want {
			t.Errorf("Parse(%q) = %v, %v, want %s", text, s, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                              `unknown condition "", supported: `,
		"cany":                          `unknown condition "cany" (is it canny?)`,
		"canny(low=1":                   `no ")" at the end`,
		"canny(low=(1)":                 `parentheses do not match`,
		"canny(low=1))":                 `parentheses do not match`,
		"canny(lo=1)":                   `no parameter "lo" (is it low?), there are: low, high`,
		"canny(low)":                    `got "low", want parameter=value`,
		"canny(low=1, low=2)":           `low is given twice`,
		"canny(low=many)":               `low: got "many", want a number`,
		"canny(low=nan)":                `low: got "nan", want a number`,
		"canny(low=0x10)":               `low: got "0x10", want a number`,
		"canny(high=inf)":               `high: got inf, want 0 to 2040`,
		"canny(low=-1)":                 `low: got -1, want 0 to 2040`,
		"canny(low=300)":                `low is up to 300 and high down to 200`,
		"canny(low=rand(1,150),high=9)": `low is up to 150 and high down to 9`,
		"canny(low=rand(2,1))":          `want the lowest value first`,
		"canny(low=rand(2))":            `want rand(lowest, highest)`,
		"canny(norm=l3)":                `norm: got "l3", want one of l1, l2`,
		"canny(norm=rand(l1,l2))":       `norm: got "rand(l1,l2)", want one of l1, l2`,
		"outline(low=1)":                `got "low", but there are no parameters`,
		strings.Repeat("canny", 1000):   `condition of 5000 bytes: want at most 1000`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.50q): %v, want %q", text, err, want)
		}
	}
}

func TestDraw(t *testing.T) {
	s, err := Parse("canny(low=rand(50,150), high=rand(150,250))")
	if err != nil {
		t.Fatal(err)
	}
	if !s.Random() {
		t.Error("the condition is not random")
	}
	seen := map[string]bool{}
	for row := range int64(50) {
		for epoch := range 2 {
			c := s.Draw(7, row, epoch)
			if c.String() != s.Draw(7, row, epoch).String() {
				t.Errorf("row %d: drawn differently", row)
			}
			if low, high := c.get("low"), c.get("high"); low < 50 || low > 150 || high < 150 || high > 250 {
				t.Errorf("row %d: %s is out of range", row, c)
			}
			seen[c.String()] = true
			again, err := Parse(c.String())
			if err != nil || again.Random() || again.Draw(8, row+1, 3).String() != c.String() {
				t.Errorf("row %d: %s reads as %v, %v", row, c, again, err)
			}
		}
	}
	if len(seen) < 90 {
		t.Errorf("%d conditions of 100 draws", len(seen))
	}
	// A parameter that is no longer random leaves the others as they were.
	one, err := Parse("canny(low=50, high=rand(150,250))")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := one.Draw(7, 3, 0).get("high"), s.Draw(7, 3, 0).get("high"); a != b {
		t.Errorf("high is %g, with a random low it is %g", a, b)
	}
}

// Defaults must be in range, and every kind's usage must read as itself.
func TestKinds(t *testing.T) {
	for _, k := range Kinds() {
		s, err := Parse(k.Usage())
		if err != nil || s.Kind() != k || s.String() != k.Usage() {
			t.Errorf("%s: %v, %v", k.Usage(), s, err)
		}
		if k.Help == "" {
			t.Errorf("%s: no help", k.Name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, k := range Kinds() {
		f.Add(k.Usage())
	}
	f.Add("canny(low=rand(50,150), high=rand(150,250))")
	f.Add("canny((low=1)")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q: %s reads as %v, %v", text, s, again, err)
		}
		c := s.Draw(1, 2, 3)
		if again, err = Parse(c.String()); err != nil || again.String() != c.String() {
			t.Fatalf("%q: %s reads as %v, %v", text, c, again, err)
		}
	})
}
