package check

import (
	"fmt"
	"slices"
	"strings"

	"limner/internal/units"
)

// Severity says how much a finding matters.
type Severity string

// The severities, in ascending order.
const (
	// Note is worth knowing; training does as well as it would.
	Note Severity = "note"
	// Warning makes the result worse.
	Warning Severity = "warning"
	// Error keeps rows from being trained on, or makes the validation loss worthless.
	Error Severity = "error"
)

// rank orders severities.
func (s Severity) rank() int { return slices.Index([]Severity{Note, Warning, Error}, s) }

// Finding is one thing that is the matter with a dataset.
type Finding struct {
	Kind     string    `json:"kind"` // what it is called, as near_duplicates
	Severity Severity  `json:"severity"`
	Count    int       `json:"count"` // of rows
	Title    string    `json:"title"`
	Advice   string    `json:"advice"`         // what to do
	Rows     []Example `json:"rows,omitempty"` // the first of them
}

// rowsAre is "1 row is" or "n rows are".
func rowsAre(n int) string { return counted(n, "row is", "rows are") }

// counted is a number with the word for it.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return units.Count(n) + " " + many
}

// findings are those of a tally: errors first, then warnings, then notes.
func (t *tally) findings(lacks []lack) []Finding {
	side := t.options.Resolution
	var all []Finding
	add := func(kind string, severity Severity, f found, title, advice string) {
		if f.count > 0 {
			all = append(all, Finding{kind, severity, f.count, title, advice, f.first})
		}
	}
	add("unreadable", Error, t.unreadable, rowsAre(t.unreadable.count)+" unreadable",
		"Replace the files or leave the rows out: training passes them over.")
	add("truncated", Error, t.truncated, rowsAre(t.truncated.count)+" truncated: the bytes end early",
		"Copy or download the files again: training passes the rows over.")
	add("other_shape", Error, t.shapes,
		counted(t.shapes.count, "row's condition or mask has", "rows' conditions or masks have")+
			" another shape than the image",
		"Make them again from the upright images at the same size: training passes the rows over.")
	add("black_mask", Error, t.blackMasks, counted(t.blackMasks.count, "mask is", "masks are")+" all black",
		"White is what counts in the loss: masks that are the wrong way round have to be inverted. "+
			"Training passes the rows over.")
	add("leaks", Error, t.leaks,
		counted(t.leaks.count, "held-out row has", "held-out rows have")+" an image that is trained on",
		"Remove it from one of the splits: the validation loss says nothing about rows that were trained on.")
	add("near_leaks", Error, t.nearLeaks, counted(t.nearLeaks.count, "held-out row has", "held-out rows have")+
		" an image that looks like one that is trained on",
		"Remove it from one of the splits. Copies that were encoded again or resized are found, no others.")
	all = append(all, t.lackFindings(lacks)...)
	all = append(all, t.pairFindings()...)
	add("blank_conditions", Warning, t.blankConditions,
		counted(t.blankConditions.count, "conditioning image is", "conditioning images are")+" blank",
		"Make the conditions again with lower thresholds, or leave the rows out with limner data build "+
			"--min_condition_variation 0.0001: they teach the ControlNet to be ignored.")
	add("near_blank_conditions", Warning, t.nearBlankConditions,
		counted(t.nearBlankConditions.count, "conditioning image shows", "conditioning images show")+" next to nothing",
		"Look at them: lower thresholds may bring out more.")
	add("blank_images", Warning, t.blank, counted(t.blank.count, "image is", "images are")+" of one colour",
		"limner data build --min_variation 0.0001 leaves the rows out.")
	add("duplicates", Warning, t.copies, counted(t.copies.count, "row has", "rows have")+" the image of an earlier one",
		"What is there twice is learned twice as much: limner data build leaves the copies out. Where they differ in "+
			"their captions, give one row all of these.")
	add("near_duplicates", Warning, t.nearCopies, counted(t.nearCopies.count, "row's image looks", "rows' images look")+
		" like an earlier one",
		"limner data build keeps the first of each. Copies that were encoded again or resized are found; crops and "+
			"edits are not.")
	add("tiny", Warning, t.tiny, counted(t.tiny.count, "image is", "images are")+
		fmt.Sprintf(" so small that training at %d enlarges by more than half", side),
		"Train at a smaller --resolution, or leave them out with limner data build --min_side: enlarged images teach "+
			"blur.")
	add("empty_captions", Warning, t.emptyCaptions,
		counted(t.emptyCaptions.count, "caption is", "captions are")+" empty",
		"Write them, or leave the rows out with limner data build --drop_empty_captions; "+
			"--proportion_empty_prompts makes the empty ones that guidance needs.")
	add("long_captions", Warning, t.longCaptions, counted(t.longCaptions.count, "caption is", "captions are")+
		fmt.Sprintf(" longer than the %d tokens that are read", t.words.most),
		"Put what matters first or shorten them: the rest is cut off.")
	add("narrow_16_bit", Warning, t.narrow, counted(t.narrow.count, "16-bit map stays", "16-bit maps stay")+
		fmt.Sprintf(" below level %d of 255", narrowLevels),
		"Scale each map to 0 to 65535 before: as it is, it is dark here, and other loaders make it white.")
	add("small", Note, t.small, counted(t.small.count, "image is", "images are")+
		fmt.Sprintf(" smaller than %d at the shorter side", side), "Training enlarges them.")
	add("oblong", Note, t.oblong, counted(t.oblong.count, "image is", "images are")+" more than twice as long as wide",
		"More than half of such an image is cropped away.")
	add("16_bit", Note, t.gray16, counted(t.gray16.count, "picture is", "pictures are")+" 16-bit gray",
		"A conditioning image keeps all 16 bits while training, other pictures the high byte; Pillow makes nearly all "+
			"of it white.")
	add("alpha", Note, t.alpha, counted(t.alpha.count, "picture is", "pictures are")+" not opaque",
		"Alpha is dropped, as by Pillow; --background puts a colour behind it.")
	all = append(all, t.repeated()...)
	slices.SortStableFunc(all, func(a, b Finding) int { return b.Severity.rank() - a.Severity.rank() })
	return all
}

// lackFindings are about columns that are not there.
func (t *tally) lackFindings(lacks []lack) (all []Finding) {
	for _, l := range lacks {
		f := Finding{
			Kind: "no_conditions", Severity: Note, Title: "no conditioning images are read",
			Advice: "Other trainings need none; for a ControlNet, make or name them. It says: " + l.reason,
		}
		if l.column == t.options.CaptionColumn {
			f = Finding{
				Kind: "no_captions", Severity: Error, Title: "captions are missing", Count: t.part.Len(),
				Advice: "Write them, or train DreamBooth with --instance_prompt. It says: " + l.reason,
			}
		}
		all = append(all, f)
	}
	return all
}

// pairFindings are about images and conditions that do not lie on each other.
func (t *tally) pairFindings() (all []Finding) {
	p, j := &t.pairs, t.pairs.judge()
	examples := func(pairs []pair, most int) (rows []Example) {
		for _, q := range pairs[:min(len(pairs), most)] {
			rows = append(rows, q.row)
		}
		return rows
	}
	turn, n := p.mostTurned()
	if n > 0 {
		all = append(all, Finding{
			Kind: "turned_conditions", Severity: Warning, Count: n, Rows: examples(p.turned, shownRows),
			Title: counted(n, "conditioning image fits its image", "conditioning images fit their images") +
				fmt.Sprintf(" when %v", turn),
			Advice: "Make the conditions again from the images as they are read: turned as their EXIF orientation " +
				"says, and not mirrored.",
		})
	}
	switch {
	case j.shifted:
		all = append(all, Finding{
			Kind: "shifted_conditions", Severity: Error, Count: len(p.own), Rows: examples(p.worst, shownRows),
			Title:  "conditioning images fit the images of the rows next to theirs",
			Advice: "Pair them anew: names or lines are off by one.",
		})
	case !j.follows && len(p.own) >= enoughPairs:
		all = append(all, Finding{
			Kind: "unrelated_conditions", Severity: Note, Count: len(p.own), Rows: examples(p.worst, 6),
			Title: fmt.Sprintf("edges of images and conditions have little in common: correlation %.2f, "+
				"of other pairs %.2f", j.usual, j.strange),
			Advice: "That is usual for poses and colours. For edges, depth or segments the pairs do not belong " +
				"together.",
		})
	case j.below > 0:
		all = append(all, Finding{
			Kind: "misaligned_conditions", Severity: Warning, Count: j.below, Rows: examples(p.worst, j.below),
			Title: counted(j.below, "conditioning image does", "conditioning images do") +
				fmt.Sprintf(" not follow the image: edge correlation below %.2f, where %.2f is usual",
					j.limit, j.usual),
			Advice: "Look at the pairs below: they may be exchanged, shifted or of another picture.",
		})
	}
	return all
}

// repeated is about captions that many rows share.
func (t *tally) repeated() []Finding {
	rows, f := 0, found{}
	total := 0
	for _, s := range t.splits {
		total += s.Rows - s.Unreadable
	}
	var texts []*caption
	for _, c := range t.captions {
		if c.count >= repeatedOften && 20*c.count >= total {
			texts = append(texts, c)
			rows += c.count
		}
	}
	slices.SortFunc(texts, func(a, b *caption) int {
		if a.count != b.count {
			return b.count - a.count
		}
		return strings.Compare(a.text, b.text)
	})
	for _, c := range texts[:min(len(texts), shownRows)] {
		f.first = append(f.first, Example{Row: counted(c.count, "row", "rows"), Detail: c.text})
	}
	if rows == 0 {
		return nil
	}
	return []Finding{{
		Kind: "repeated_captions", Severity: Note, Count: rows, Rows: f.first,
		Title: fmt.Sprintf("%s among %s of captions that each stand at a twentieth of all",
			counted(rows, "row is", "rows are"), counted(len(texts), "caption", "captions")),
		Advice: "A caption that many images share describes none of them well, unless it is meant to.",
	}}
}
