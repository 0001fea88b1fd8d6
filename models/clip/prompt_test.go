package clip

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseStyle(t *testing.T) {
	for name, want := range map[string]Style{"": Plain, "plain": Plain, "a1111": A1111, "comfy": Comfy} {
		if got, err := ParseStyle(name); err != nil || got != want {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
	}
	if _, err := ParseStyle("A1111"); err == nil ||
		!strings.Contains(err.Error(), `"A1111": want plain, a1111 or comfy`) {
		t.Errorf("got %v", err)
	}
	for _, style := range []Style{"", "invoke"} {
		if _, err := ParsePrompt(style, "a"); err == nil ||
			!strings.Contains(err.Error(), "want plain, a1111 or comfy") {
			t.Errorf("style %q: got %v", style, err)
		}
	}
}

const stop = "\x00" // in the tables below, a break

func TestParsePrompt(t *testing.T) {
	type segment struct {
		text   string
		weight float64
	}
	half := 1 / float64(emphasis)
	for _, c := range []struct {
		style  Style
		prompt string
		want   []segment
	}{
		{Plain, "", []segment{{"", 1}}},
		{Plain, `a ((cat:1.3)) [b] \( BREAK`, []segment{{`a ((cat:1.3)) [b] \( BREAK`, 1}}},

		{A1111, "", []segment{{"", 1}}},
		{A1111, "normal text", []segment{{"normal text", 1}}},
		{A1111, "an (important) word", []segment{{"an ", 1}, {"important", 1.1}, {" word", 1}}},
		{A1111, "(unbalanced", []segment{{"unbalanced", 1.1}}},
		{A1111, "[(both", []segment{{"both", 1.1 * half}}},
		{A1111, `\(literal\] \\ \[ \)`, []segment{{`(literal] \ [ )`, 1}}},
		{A1111, `back\slash \`, []segment{{"backslash ", 1}}},
		{A1111, "(two)(groups)", []segment{{"twogroups", 1.1}}},
		{A1111, "a (b:3.12) [c]", []segment{{"a ", 1}, {"b", 3.12}, {" ", 1}, {"c", half}}},
		{A1111, "(a (b:1.5) c)", []segment{{"a ", 1.1}, {"b", 1.5 * 1.1}, {" c", 1.1}}},
		{A1111, "((a:2):3)", []segment{{"a", 6}}},
		{A1111, "(a: 1.3 )", []segment{{"a", 1.3}}},
		{A1111, "(a:-.5)(b:+2.)", []segment{{"a", -.5}, {"b", 2}}},
		{A1111, "(a:0)", []segment{{"a", 0}}},
		{A1111, "(ratio 3:4)", []segment{{"ratio 3", 4}}},
		{A1111, "(a:notanumber)", []segment{{"a:notanumber", 1.1}}},
		{A1111, "(a:1.2.3)(b:1e2)", []segment{{"a:1.2.3b:1e2", 1.1}}},
		{A1111, "a:1.3) b) c]", []segment{{"a:1.3) b) c]", 1}}},
		{A1111, "[a:1.3]", []segment{{"a:1.3", half}}},
		{A1111, "(a [b) c]", []segment{{"a ", 1.1}, {"b", 1.1 * half}, {" c", half}}},
		{A1111, "()", []segment{{"", 1}}},
		{A1111, "a BREAK b", []segment{{"a", 1}, {stop, 1}, {"b", 1}}},
		{A1111, "a\n BREAK,b", []segment{{"a", 1}, {stop, 1}, {",b", 1}}},
		{A1111, "BREAKFAST break aBREAK BREAK_", []segment{{"BREAKFAST break aBREAK BREAK_", 1}}},
		{A1111, "a BREAK BREAK b", []segment{{"a", 1}, {stop, 1}, {"", 1}, {stop, 1}, {"b", 1}}},
		{A1111, "(a) BREAK", []segment{{"a", 1.1}, {"", 1}, {stop, 1}, {"", 1}}},
		{A1111, "(a BREAK b)", []segment{{"a", 1.1}, {"BREAK", -1.1}, {"b", 1.1}}},

		{Comfy, "", nil},
		{Comfy, "a [b] BREAK", []segment{{"a [b] BREAK", 1}}},
		{Comfy, "a (b) c", []segment{{"a ", 1}, {"b", 1.1}, {" c", 1}}},
		{Comfy, "((a))", []segment{{"a", 1.1 * emphasis}}},
		{Comfy, "((a:1.5) b:2)", []segment{{"a", 1.5}, {" b", 2}}},
		{Comfy, "((a) b:2)", []segment{{"a", 2 * 1.1}, {" b", 2}}},
		{Comfy, "(a: 1e-1 )(b:-2)", []segment{{"a", .1}, {"b", -2}}},
		{
			Comfy, "(a:1.2:x)(b:)(c:nan)(d:inf)", []segment{
				{"a:1.2:x", 1.1}, {"b:", 1.1}, {"c:nan", 1.1}, {"d:inf", 1.1},
			},
		},
		{Comfy, "(:1.3)", []segment{{":1.3", 1.1}}},
		{Comfy, `\(a\) (b\):2) \\ \[`, []segment{{"(a) ", 1}, {"b)", 2}, {` \\ \[`, 1}}},
		{Comfy, "()", nil},
		{Comfy, "(open a", []segment{{"(open a", 1}}},
		{Comfy, "(open (a)", []segment{{"open ", 1.1}, {"(a", 1.1}}},
		{Comfy, "a) (b) (c)", []segment{{"a) (b) (c)", 1}}},
		{Comfy, "a) (b(c)", []segment{{"a) (b", 1}, {"c", 1.1}}},
	} {
		got, err := ParsePrompt(c.style, c.prompt)
		if err != nil {
			t.Errorf("%s %q: %v", c.style, c.prompt, err)
			continue
		}
		var found []segment
		for _, s := range got {
			if s.Break {
				s.Text += stop
			}
			found = append(found, segment{s.Text, s.Weight})
		}
		if !slices.EqualFunc(found, c.want, func(a, b segment) bool {
			return a.text == b.text && math.Abs(a.weight-b.weight) < 1e-12
		}) {
			t.Errorf("%s %q:\ngot  %v\nwant %v", c.style, c.prompt, found, c.want)
		}
	}
}

func TestParsePromptRejects(t *testing.T) {
	for _, c := range []struct {
		style        Style
		prompt, want string
	}{
		{A1111, strings.Repeat("(", 501) + "a", "more than 500 brackets"},
		{A1111, strings.Repeat("([", 251) + "a", "more than 500 brackets"},
		{A1111, "((a:" + strings.Repeat("9", 30) + "):" + strings.Repeat("9", 30) + ")", `of "a" is too large`},
		{Comfy, strings.Repeat("(", 501) + "a" + strings.Repeat(")", 501), "more than 500 brackets"},
		{Comfy, "(a:1e39)", "weight 1e+39"},
	} {
		if got, err := ParsePrompt(c.style, c.prompt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, want %q", c.style, got, err, c.want)
		}
	}
}

// TestParsePromptTime checks that nothing in a prompt costs more than its length times the nesting.
func TestParsePromptTime(t *testing.T) {
	const n = 1 << 17
	deep := strings.Repeat("(a", maxNesting) + strings.Repeat("b:", n/4) + strings.Repeat("c)", maxNesting)
	for name, prompt := range map[string]string{
		"colons": strings.Repeat(":", n), "spaces": strings.Repeat(": ", n/2),
		"pairs": strings.Repeat("(a)", n/3), "deep": deep, "closing": strings.Repeat(")", n),
		"breaks": strings.Repeat("BREAK ", n/6), "backslashes": strings.Repeat(`\`, n),
		"weights": strings.Repeat("(a:1.1)", n/7), "digits": "(a:" + strings.Repeat("1", n),
		"open": strings.Repeat("(", n),
	} {
		for _, style := range Styles() {
			start := time.Now()
			_, err := ParsePrompt(style, prompt)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s %s: took %v (%v)", style, name, took, err)
			}
		}
	}
}

// FuzzParsePrompt checks that every prompt is parsed or refused, with finite weights, that a plain one
// stays as it is, and that no style adds text of its own.
func FuzzParsePrompt(f *testing.F) {
	for _, prompt := range []string{
		"", "a (b:1.3) [c] BREAK d", `\(\)\[\]\\`, "((a:2):3)) (b", "(a [b) c:1.2.3]", "(x:-1e3)(y: .5 )", "a) (b(c)",
		"\xff(\xe2\x82:1)", "(((((((a:9999999999999)", "BREAK BREAK", "(a BREAK:-1)",
	} {
		f.Add(prompt)
	}
	f.Fuzz(func(t *testing.T, prompt string) {
		for _, style := range Styles() {
			segments, err := ParsePrompt(style, prompt)
			if err != nil {
				if style == Plain {
					t.Fatal(err)
				}
				continue
			}
			size := 0
			for _, s := range segments {
				if w := float32(s.Weight); w-w != 0 {
					t.Fatalf("%s: weight %g", style, s.Weight)
				}
				if s.Break && (style != A1111 || s.Text != "") {
					t.Fatalf("%s: break %q", style, s.Text)
				}
				size += len(s.Text)
			}
			if style == Plain && (len(segments) != 1 || segments[0] != Segment{Text: prompt, Weight: 1}) {
				t.Fatalf("plain: got %v", segments)
			}
			// A byte that is not UTF-8 becomes a sign of three.
			if most := 3 * len(prompt); size > most {
				t.Fatalf("%s: %d bytes of text from %d", style, size, len(prompt))
			}
		}
	})
}
