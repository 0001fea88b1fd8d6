package data

import (
	"fmt"
	"regexp"
	"strings"

	"limner/internal/printable"
)

// flipSample is about how many rows' captions are looked at before images are turned around.
const flipSample = 1024

// sides finds the words left and right. An underscore ends a word, as in tags.
var sides = regexp.MustCompile(`(?i)(?:^|[^\pL])(left|right)(?:$|[^\pL])`)

// Side is the first of the words left and right in a caption, which would be wrong for an image that is turned around;
// "" if it has neither.
func Side(caption string) string {
	if m := sides.FindStringSubmatch(caption); m != nil {
		return strings.ToLower(m[1])
	}
	return ""
}

// checkFlips fails if images are to be turned around of which a caption says left or right. It looks at the captions of
// rows from all over the dataset.
func (d *Dataset) checkFlips() error {
	if !d.options.RandomFlip || d.options.ForceFlip || d.options.NoCaptions {
		return nil
	}
	step := max(1, (len(d.pieces)+flipSample-1)/flipSample)
	each := max(1, flipSample/int64(len(d.pieces)))
	for at := 0; at < len(d.pieces); at += step {
		p := d.pieces[at]
		for i, row := range d.tables[p.table].readCaptions(p.group, 0, min(p.rows, each)) {
			for _, caption := range row.captions {
				if word := Side(caption); word != "" {
					return fmt.Errorf("random_flip: %s, which would be wrong for an image that is turned around: "+
						"leave it out, or give --force_flip too", d.name(p.start+int64(i), sideReason(caption, word)))
				}
			}
		}
	}
	return nil
}

// sideReason says what a flip makes wrong.
func sideReason(caption, word string) string {
	return fmt.Sprintf("the caption %q says %s", printable.Line(caption, printable.LineLimit), word)
}

// noteFlip logs once that a caption, of a row that checkFlips did not see, is wrong for an image that was turned
// around.
func (d *Dataset) noteFlip(row int64, caption string) {
	word := Side(caption)
	if word == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.turned && d.options.Log != nil {
		fmt.Fprintf(d.options.Log, "%s, and --random_flip turns its image around (said once)\n",
			d.name(row, sideReason(caption, word)))
	}
	d.turned = true
}
