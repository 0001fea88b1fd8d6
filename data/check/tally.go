package check

import (
	"fmt"
	"hash/maphash"
	"strings"

	"limner/data"
	"limner/data/imaging"
	"limner/data/quality"
	"limner/internal/printable"
)

const (
	shownRows  = 12  // of each finding
	shownPairs = 24  // of the contact sheet
	nameLimit  = 200 // bytes of a name that are shown
	textLimit  = 300 // of a caption or a reason
)

// Example is a row that a finding is about.
type Example struct {
	Row    string `json:"row"`
	Detail string `json:"detail,omitempty"`

	pictures []picture
}

// found collects the rows of a kind of finding.
type found struct {
	count int
	first []Example
}

// tally is what the check remembers of the rows that it has seen: about 250 bytes of each, and some pictures.
type tally struct {
	options Options
	part    part
	parts   []part
	splits  []Split

	unreadable, truncated, shapes, blackMasks                         found
	tiny, small, oblong, blank, blankConditions, nearBlankConditions  found
	copies, nearCopies, leaks, nearLeaks, emptyCaptions, longCaptions found
	narrow, gray16, alpha                                             found

	index     quality.Index
	known     []knownRow     // the rows in the index
	files     map[int]string // of rows in the index whose file the dataset names
	sizes     map[[2]int]int
	sharpness []float32
	captions  map[uint64]*caption
	hashSeed  maphash.Seed
	words     tokenCounts
	licences  map[string]int
	pairs     pairs
	sheet     []Example
}

// knownRow is a row in the index.
type knownRow struct {
	split, row int32
	rest       uint64 // a hash of condition, mask and captions
}

// caption is how often one occurs.
type caption struct {
	count int
	text  string // once it occurs often
}

// tokenCounts are the numbers of tokens of the rows' longest captions.
type tokenCounts struct{ rows, longest, most int }

func newTally(o Options) *tally {
	return &tally{
		options: o, files: map[int]string{}, sizes: map[[2]int]int{}, captions: map[uint64]*caption{},
		hashSeed: maphash.MakeSeed(), licences: map[string]int{},
	}
}

// begin says that the rows of a split follow.
func (t *tally) begin(p part) {
	t.part, t.parts = p, append(t.parts, p)
	t.splits = append(t.splits, Split{
		Name: p.name, Rows: p.Len(), Bytes: p.Bytes(), Opened: printable.Text(p.opened, printable.LineLimit),
	})
	t.pairs.previous = nil
}

// take adds a row to a finding.
func (t *tally) take(f *found, i int, r data.Row, detail string) {
	f.count++
	if len(f.first) < shownRows {
		f.first = append(f.first, t.example(i, r, detail))
	}
}

// example shows a row of the split.
func (t *tally) example(i int, r data.Row, detail string) Example {
	return Example{Row: t.name(i, r), Detail: printable.Line(detail, textLimit), pictures: picturesOf(r)}
}

// name names row i of the split, with its file if the dataset says which it is.
func (t *tally) name(i int, r data.Row) string { return rowName(t.part, i, r.Extra["file_name"]) }

// originOf is where row i of a split comes from, as the errors of reading it have it.
func originOf(p part, i int) string {
	file, row, _ := p.Origin(i)
	return fmt.Sprintf("%s row %d", file, row)
}

func rowName(p part, i int, file string) string {
	name := originOf(p, i)
	if file != "" {
		name += " (" + file + ")"
	}
	return printable.Line(name, nameLimit)
}

// add tallies row i of the split.
func (t *tally) add(i int, m *measured) {
	row := m.row
	split := &t.splits[len(t.splits)-1]
	if m.err != nil {
		split.Unreadable++
		f := &t.unreadable
		if truncated(m.err) {
			f = &t.truncated
		}
		f.count++
		if len(f.first) < shownRows {
			f.first = append(f.first, t.example(i, row, reasonOf(m.err, originOf(t.part, i))))
		}
		return
	}
	t.addPictures(i, m)
	t.addCopies(i, m)
	t.addCaptions(i, m)
	for _, column := range []string{"license", "licence"} {
		if text := row.Extra[column]; text != "" {
			t.licences[printable.Line(strings.TrimSpace(text), 80)]++
		}
	}
	if m.condition != nil {
		t.pairs.add(t, i, m)
	}
	if t.part.name == "train" && i*shownPairs/max(1, t.part.Len()) >= len(t.sheet) && len(t.sheet) < shownPairs {
		t.sheet = append(t.sheet, t.example(i, row, row.Caption))
	}
}

// reasonOf is why a row cannot be read, without its name in front.
func reasonOf(err error, name string) string { return strings.TrimPrefix(err.Error(), name+": ") }

// addPictures tallies what a row's pictures are.
func (t *tally) addPictures(i int, m *measured) {
	row := m.row
	w, h := row.Image.Width, row.Image.Height
	size := fmt.Sprintf("%d×%d", w, h)
	t.sizes[[2]int{w, h}]++
	t.sharpness = append(t.sharpness, float32(m.sharpness))
	side := min(w, h)
	switch {
	case 3*side < 2*t.options.Resolution:
		t.take(&t.tiny, i, row, size)
	case side < t.options.Resolution:
		t.take(&t.small, i, row, size)
	}
	if max(w, h) > 2*side {
		t.take(&t.oblong, i, row, size)
	}
	if quality.Blank(m.variation) {
		t.take(&t.blank, i, row, size)
	}
	if m.shape != nil {
		t.take(&t.shapes, i, row, m.shape.Error())
	}
	if m.blackMask {
		t.take(&t.blackMasks, i, row, "")
	}
	if m.condition != nil && quality.Blank(m.conditionShown) {
		t.take(&t.blankConditions, i, row, "")
	} else if m.condition != nil && quality.NearBlank(m.conditionShown) {
		t.take(&t.nearBlankConditions, i, row,
			fmt.Sprintf("%.2f %% of its pixels differ from the rest", 100*m.conditionShown))
	}
	for _, note := range row.Notes {
		switch note.Note {
		case imaging.NoteAlpha:
			t.take(&t.alpha, i, row, note.Column)
		case imaging.NoteGray16:
			t.take(&t.gray16, i, row, note.Column)
			if level := m.levels[note.Column]; level < narrowLevels {
				t.take(&t.narrow, i, row, fmt.Sprintf("%s: at most %d of 255", note.Column, level))
			}
		}
	}
}

// narrowLevels is the 8-bit level below which a 16-bit map uses little of its range: depth in millimetres up to some
// metres lies there.
const narrowLevels = 64

// addCopies looks for the row's image among those before it.
func (t *tally) addCopies(i int, m *measured) {
	match, seen := t.index.Find(&m.print)
	if !seen {
		if file := m.row.Extra["file_name"]; file != "" {
			t.files[len(t.known)] = file
		}
		t.index.Add(len(t.known), &m.print)
		t.known = append(t.known, knownRow{split: int32(len(t.splits) - 1), row: int32(i), rest: m.rest})
		return
	}
	first := t.known[match.Row]
	detail := "as " + rowName(t.parts[first.split], int(first.row), t.files[match.Row])
	leaks := int(first.split) != len(t.splits)-1
	switch {
	case leaks && match.Exact:
		t.take(&t.leaks, i, m.row, detail)
	case leaks:
		t.take(&t.nearLeaks, i, m.row, detail)
	case match.Exact:
		if first.rest != m.rest {
			detail += ", with another caption or condition"
		}
		t.take(&t.copies, i, m.row, detail)
	default:
		t.take(&t.nearCopies, i, m.row, detail)
	}
}

// addCaptions tallies a row's captions.
func (t *tally) addCaptions(i int, m *measured) {
	if t.part.options.NoCaptions {
		return
	}
	empty := true
	for _, text := range m.row.Captions {
		if strings.TrimSpace(text) != "" {
			empty = false
		}
		h := maphash.String(t.hashSeed, text)
		c := t.captions[h]
		if c == nil {
			c = &caption{}
			t.captions[h] = c
		}
		if c.count++; c.count == repeatedOften {
			c.text = printable.Line(text, textLimit)
		}
	}
	if empty {
		t.take(&t.emptyCaptions, i, m.row, "")
	}
	if len(t.options.Tokenizers) > 0 {
		t.words.rows++
		t.words.longest, t.words.most = max(t.words.longest, m.tokens), max(t.words.most, m.most)
		if m.tokens > m.most {
			t.take(&t.longCaptions, i, m.row, fmt.Sprintf("%d tokens: %s", m.tokens, m.row.Caption))
		}
	}
}

// repeatedOften is how often a caption must occur to be said to repeat.
const repeatedOften = 20
