package clip

import (
	"slices"
	"strings"
	"testing"
)

// lettersTokenizer has one token for each letter, and no longer ones.
func lettersTokenizer(t testing.TB, maxLength int) *Tokenizer {
	t.Helper()
	tok, err := TrainTokenizer([]string{"a"}, 0, maxLength)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// chunksText writes rows as the tokens between start and end, with a weight where it is not 1.
func chunksText(t *testing.T, tok *Tokenizer, e Encoded) []string {
	t.Helper()
	var out []string
	for i, row := range e.IDs {
		if len(row) != tok.MaxLength() || len(e.Weights[i]) != len(row) || row[0] != tok.BOS() {
			t.Fatalf("row %d: got %v, weights %v", i, row, e.Weights[i])
		}
		end := slices.Index(row, tok.EOS())
		for k, id := range row {
			if k > end && id != tok.Pad() || (k == 0 || k >= end) && e.Weights[i][k] != 1 {
				t.Errorf("row %d at %d: got %d of weight %g", i, k, id, e.Weights[i][k])
			}
		}
		var b strings.Builder
		for k, id := range row[1:end] {
			b.WriteString(strings.TrimSuffix(tok.tokens[id], wordEnd))
			switch e.Weights[i][k+1] {
			case 2:
				b.WriteByte('\'')
			case 0.5:
				b.WriteByte('.')
			case 1:
			default:
				t.Errorf("row %d at %d: weight %g", i, k+1, e.Weights[i][k+1])
			}
		}
		out = append(out, b.String())
	}
	return out
}

func TestEncodePrompt(t *testing.T) {
	for _, c := range []struct {
		style  Style
		prompt string
		want   []string // chunks of at most 10 tokens
	}{
		{Plain, "", []string{""}},
		{Plain, "a b", []string{"ab"}},
		{Plain, "a b c d e f a b c d", []string{"abcdefabcd"}},
		{Plain, "a b, c d e f a b c d", []string{"ab,cdefabc", "d"}},
		{Plain, "(a:2)", []string{"(a:2)"}},

		{A1111, "", []string{""}},
		{A1111, "(a:2) b", []string{"a'b"}},
		{A1111, "a b c d e f a b c d e", []string{"abcdefabcd", "e"}},
		{A1111, "a b, c d (e f a b c:2) d", []string{"ab,", "cde'f'a'b'c'd"}},
		{A1111, "a b, c d e f a b c, d", []string{"ab,cdefabc", ",d"}},
		{A1111, "a b c d e f a b c, d", []string{"abcdefabc,", "d"}},
		{A1111, "a b c d, e f a b c d BREAK e", []string{"abcd,", "efabcd", "e"}},
		{A1111, "a BREAK b", []string{"a", "b"}},
		{A1111, "BREAK b BREAK", []string{"", "b"}},
		{A1111, "a b c d e f a b c d BREAK", []string{"abcdefabcd"}},
		{A1111, "a b c d e f <x> b", []string{"abcdef", "<x><x>_1<x>_2<x>_3<x>_4b"}},
		{A1111, "a b c d, e <x>", []string{"abcd,e", "<x><x>_1<x>_2<x>_3<x>_4"}},
		{A1111, "a, b c d e f a b c <x>", []string{"a,", "bcdefabc", "<x><x>_1<x>_2<x>_3<x>_4"}},
		{A1111, "a <y>", []string{"a", "<y><y>_1<y>_2<y>_3<y>_4<y>_5<y>_6<y>_7<y>_8<y>_9", "<y>_10<y>_11"}},

		{Comfy, "", []string{""}},
		{Comfy, "(a:2) b BREAK", []string{"a'bbreak"}},
		{Comfy, "a b c d (e f a b c:2) d", []string{"abcde'f'a'b'c'd"}},
		{Comfy, "a b c d e f (e f a b c:2) d", []string{"abcdef", "e'f'a'b'c'd"}},
		{Comfy, "a b c d (e f a b c d e f:.5) d", []string{"abcde.f.a.b.c.d.", "e.f.d"}},
		{Comfy, "a b c d e f a b c d (e:2)", []string{"abcdefabcd", "e'"}},
		{Comfy, "a b c d e f <x> b", []string{"abcdef", "<x><x>_1<x>_2<x>_3<x>_4b"}},
		{Comfy, "a <y>", []string{"a<y><y>_1<y>_2<y>_3<y>_4<y>_5<y>_6<y>_7<y>_8", "<y>_9<y>_10<y>_11"}},
	} {
		tok, _, err := lettersTokenizer(t, 12).AddTokens(Placeholder{"<x>", 5}, Placeholder{"<y>", 12})
		if err != nil {
			t.Fatal(err)
		}
		e, err := tok.EncodePrompt(c.style, c.prompt)
		if err != nil {
			t.Errorf("%s %q: %v", c.style, c.prompt, err)
			continue
		}
		if got := chunksText(t, tok, e); !slices.Equal(got, c.want) {
			t.Errorf("%s %q:\ngot  %q\nwant %q", c.style, c.prompt, got, c.want)
		}
		if weighted := slices.ContainsFunc(c.want, func(s string) bool {
			return strings.ContainsAny(s, "'.")
		}); e.Weighted() != weighted {
			t.Errorf("%s %q: weighted %v", c.style, c.prompt, e.Weighted())
		}
		empty, _ := tok.EncodePadded("")
		first, truncated := tok.EncodePadded(c.prompt)
		if !slices.Equal(e.Empty, empty) ||
			c.style == Plain && (!slices.Equal(e.IDs[0], first) || truncated != (len(e.IDs) > 1)) {
			t.Errorf("%s %q: got %v, empty %v", c.style, c.prompt, e.IDs, e.Empty)
		}
	}
}

// TestEncodePromptPadding checks that padding other than the end token follows the end token.
func TestEncodePromptPadding(t *testing.T) {
	tok := repoTokenizer(t, "sd21-tiny/tokenizer")
	e, err := tok.EncodePrompt(A1111, "in BREAK in")
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range e.IDs {
		if row[1] != tok.Encode("in")[0] || row[2] != tok.EOS() || row[3] != 0 || row[76] != 0 {
			t.Errorf("row %d: got %v", i, row)
		}
	}
	if len(e.IDs) != 2 || e.Tokens != 2 {
		t.Errorf("got %d chunks, %d tokens", len(e.IDs), e.Tokens)
	}
}

// TestEncodePromptCommaReach checks that a comma counts up to the 20th last token of 75.
func TestEncodePromptCommaReach(t *testing.T) {
	tok := lettersTokenizer(t, 77)
	for before, first := range map[int]int{55: 56, 54: 75} {
		prompt := strings.Repeat("a ", before) + "," + strings.Repeat(" b", 30)
		e, err := tok.EncodePrompt(A1111, prompt)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Index(e.IDs[0], tok.EOS()) - 1; got != first || e.Tokens != before+31 {
			t.Errorf("comma after %d tokens: got %d in the first chunk, want %d; %d tokens",
				before, got, first, e.Tokens)
		}
	}
}

func TestEncodeSegmentsRejects(t *testing.T) {
	if _, err := lettersTokenizer(t, 2).EncodePrompt(Plain, "a"); err == nil ||
		!strings.Contains(err.Error(), "no room for a token") {
		t.Errorf("got %v", err)
	}
	if _, err := lettersTokenizer(t, 5).EncodeSegments(Comfy, []Segment{{Text: "a", Weight: 1e39}}); err == nil ||
		!strings.Contains(err.Error(), "not a float32") {
		t.Errorf("got %v", err)
	}
	if _, err := lettersTokenizer(t, 5).EncodeSegments("", nil); err == nil || !strings.Contains(err.Error(), `encode prompt: prompt style ""`) {
		t.Errorf("got %v", err)
	}
	if _, err := lettersTokenizer(t, 5).EncodePrompt("x", "a"); err == nil ||
		!strings.Contains(err.Error(), "want plain") {
		t.Errorf("got %v", err)
	}
}

func TestAlignChunks(t *testing.T) {
	a, b := lettersTokenizer(t, 5), repoTokenizer(t, "sd21-tiny/tokenizer")
	long, err := a.EncodePrompt(Plain, "a b c d e f a")
	if err != nil {
		t.Fatal(err)
	}
	short, err := b.EncodePrompt(A1111, "(in:2)")
	if err != nil {
		t.Fatal(err)
	}
	got := AlignChunks(long, short)
	if len(got[0].IDs) != 3 || len(got[1].IDs) != 3 || len(got[1].Weights) != 3 || len(short.IDs) != 1 {
		t.Fatalf("got %d and %d chunks", len(got[0].IDs), len(got[1].IDs))
	}
	empty, _ := b.EncodePadded("")
	for _, i := range []int{1, 2} {
		if !slices.Equal(got[1].IDs[i], empty) || !slices.Equal(got[1].Weights[i], ones(77)) {
			t.Errorf("chunk %d: got %v, weights %v", i, got[1].IDs[i], got[1].Weights[i])
		}
	}
	if !slices.Equal(got[1].IDs[0], short.IDs[0]) || got[1].Tokens != 1 {
		t.Errorf("got %v, %d tokens", got[1].IDs[0], got[1].Tokens)
	}
	if got := AlignChunks(); len(got) != 0 {
		t.Errorf("got %v of nothing", got)
	}
}

// FuzzEncodePrompt checks that each chunk is whole, that weights are finite, and that the chunks together
// hold the tokens of the segments.
func FuzzEncodePrompt(f *testing.F) {
	base, err := TrainTokenizer([]string{"a photo of a cat", "İstanbul 😀 it's 2024"}, 50, 77)
	if err != nil {
		f.Fatal(err)
	}
	base, _, err = base.AddTokens(Placeholder{"<x>", 5}, Placeholder{"yy", 9})
	if err != nil {
		f.Fatal(err)
	}
	for _, prompt := range []string{
		"", "a (b:1.3) [c] BREAK d", "a, b <x> c <X>_1", strings.Repeat("ab, ", 60), strings.Repeat("(<x>:2) ", 30),
		"\xff(\xe2\x82:1)", "<|endoftext|>!",
	} {
		for _, length := range []int{3, 12, 77} {
			f.Add(prompt, length)
		}
	}
	f.Fuzz(func(t *testing.T, prompt string, length int) {
		tok := *base
		tok.maxLength = 3 + int(uint(length)%75)
		for _, style := range Styles() {
			segments, err := ParsePrompt(style, prompt)
			if err != nil {
				continue
			}
			e, err := tok.EncodeSegments(style, segments)
			if err != nil {
				t.Fatal(err)
			}
			var want, got []int32
			for _, s := range segments {
				want = append(want, tok.Encode(s.Text)...)
			}
			if len(e.IDs) == 0 || len(e.Weights) != len(e.IDs) || e.Tokens != len(want) {
				t.Fatalf("%s: got %d chunks, %d rows of weights, %d tokens of %d",
					style, len(e.IDs), len(e.Weights), e.Tokens, len(want))
			}
			typed := slices.Contains(want, tok.EOS()) // then the end of a chunk cannot be told from text
			for i, row := range e.IDs {
				if len(row) != tok.MaxLength() || len(e.Weights[i]) != len(row) || row[0] != tok.BOS() {
					t.Fatalf("%s: row %v, weights %v", style, row, e.Weights[i])
				}
				for _, w := range e.Weights[i] {
					if w-w != 0 {
						t.Fatalf("%s: weight %g", style, w)
					}
				}
				end := slices.Index(row, tok.EOS())
				if end < 0 {
					t.Fatalf("%s: row %v does not end", style, row)
				}
				got = append(got, row[1:end]...)
			}
			if !typed && !slices.Equal(got, want) {
				t.Fatalf("%s: got %v, want %v", style, got, want)
			}
		}
	})
}
