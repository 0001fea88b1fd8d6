package build

import (
	"crypto/sha256"

	"limner/data/imaging"
	"limner/data/quality"
)

// likeness is what the pictures of a row are found again by.
type likeness struct {
	image  quality.Print
	paired []quality.Print // of the conditioning image and the mask that were read with it
}

// likenessOf looks at the pictures of a row as they were read. Those that are nil are left out.
func likenessOf(image *imaging.RGB, paired ...*imaging.RGB) (l likeness, err error) {
	if l.image, err = printOf(image); err != nil {
		return l, err
	}
	for _, m := range paired {
		if m == nil {
			continue
		}
		p, err := printOf(m)
		if err != nil {
			return l, err
		}
		l.paired = append(l.paired, p)
	}
	return l, nil
}

func printOf(m *imaging.RGB) (quality.Print, error) {
	r, err := quality.Reduce(m)
	if err != nil {
		return quality.Print{}, err
	}
	return r.Print(), nil
}

// sum identifies the pixels of all of the row's pictures.
func (l *likeness) sum() [16]byte {
	if len(l.paired) == 0 {
		return l.image.Sum
	}
	h := sha256.New()
	h.Write(l.image.Sum[:])
	for _, p := range l.paired {
		h.Write(p.Sum[:])
	}
	return [16]byte(h.Sum(nil))
}

// pairedAlike says whether what is paired with two images looks the same.
func (l *likeness) pairedAlike(o []quality.Print) bool {
	if len(l.paired) != len(o) {
		return false
	}
	for i := range l.paired {
		if !l.paired[i].Same(&o[i]) {
			return false
		}
	}
	return true
}

// The ways to treat duplicates.
const (
	dropNear  = "near"
	dropExact = "exact"
	dropNone  = "keep"
)

// duplicates knows the rows that were kept, by their places.
type duplicates struct {
	drop    string
	exact   map[[16]byte]int
	near    quality.Index
	paired  map[int][]quality.Print
	heldOut quality.Index // the images of validation, whose likes train must not have whatever else is kept
}

func newDuplicates(drop string) *duplicates {
	return &duplicates{drop: drop, exact: map[[16]byte]int{}, paired: map[int][]quality.Print{}}
}

// find looks for a row that was kept and is the same as a row of validation or train, or like it; why is "" if there is
// none.
func (d *duplicates) find(l *likeness, train bool) (why string, place int) {
	if train {
		if m, found := d.heldOut.Find(&l.image); found {
			return leftHeldOut, m.Row
		}
	}
	if d.drop == dropNone {
		return "", 0
	}
	if at, found := d.exact[l.sum()]; found {
		return leftDuplicate, at
	}
	if d.drop == dropNear {
		if m, found := d.near.Find(&l.image); found && l.pairedAlike(d.paired[m.Row]) {
			return leftNear, m.Row
		}
	}
	return "", 0
}

// add adds a row that is kept.
func (d *duplicates) add(l *likeness, train bool, place int) {
	if !train {
		d.heldOut.Add(place, &l.image)
	}
	if d.drop == dropNone {
		return
	}
	d.exact[l.sum()] = place
	if d.drop == dropNear {
		d.near.Add(place, &l.image)
		if len(l.paired) > 0 {
			d.paired[place] = l.paired
		}
	}
}
