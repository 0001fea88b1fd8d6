package watch

import (
	"fmt"
	"html/template"
	"path/filepath"
	"strings"

	"limner/data/imaging"
	"limner/internal/page"
	"limner/internal/units"
)

// diaryPixels is how wide an image is at most.
const diaryPixels = 256

// Row is a row of the dataset as training has it: resized, cropped, maybe turned around.
type Row struct {
	Image, Condition, Mask *imaging.RGB // nil: it has none
	Caption                string
}

// diaryValidation is a validation.
type diaryValidation struct {
	Step   int          `json:"step"`
	Text   string       `json:"text"`
	Groups []diaryGroup `json:"groups"`
}

// diaryGroup are pictures that belong together.
type diaryGroup struct {
	Caption string       `json:"caption"`
	Images  []diaryImage `json:"images"`
}

// diaryImage is a picture with what it is: Title below it, and Alt for those who do not see it.
type diaryImage struct {
	Source template.URL `json:"source"`
	Title  string       `json:"title"`
	Alt    string       `json:"alt"`
}

// groups are the pictures of rows.
func (d *diary) groups(rows []Row) ([]diaryGroup, error) {
	var groups []diaryGroup
	for i, row := range rows {
		group := diaryGroup{Caption: row.Caption}
		for _, part := range []struct {
			title string
			image *imaging.RGB
		}{{"image", row.Image}, {"conditioning image", row.Condition}, {"mask", row.Mask}} {
			if part.image == nil {
				continue
			}
			source, err := d.once(fmt.Sprintf("row %d: %s", i, part.title), func() (*imaging.RGB, error) {
				return part.image, nil
			})
			if err != nil {
				return nil, err
			}
			group.Images = append(group.Images, diaryImage{source, part.title, altText(part.title, row.Caption)})
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// altText describes a picture of a prompt or a caption, which may be empty.
func altText(what, of string) string {
	if of == "" {
		return what
	}
	return what + ": " + of
}

// validations are those with their images, small: beside a conditioning image, what it was taken from and what was
// drawn with it.
func (d *diary) validations(validated []Validated) ([]diaryValidation, error) {
	var out []diaryValidation
	for _, v := range validated {
		shown := diaryValidation{Step: v.Step, Text: v.describe()}
		var last *ValidatedImage // of the group
		for i, image := range v.Images {
			if image.File == "" { // it could not be written
				continue
			}
			if last == nil || image.Prompt != last.Prompt || image.Condition != last.Condition ||
				image.Target != last.Target {
				last = &v.Images[i]
				group := diaryGroup{Caption: image.Prompt}
				for _, part := range []struct{ title, file string }{
					{"conditioning image", image.Condition}, {"true picture", image.Target},
				} {
					if err := d.add(&group, part.file, part.title, altText(part.title, image.Prompt)); err != nil {
						return nil, err
					}
				}
				shown.Groups = append(shown.Groups, group)
			}
			title := fmt.Sprintf("seed %d", image.Seed)
			if image.Problem != "" {
				title += ", " + image.Problem
			}
			alt := altText(fmt.Sprintf("drawn at step %s with seed %d", units.Count(v.Step), image.Seed), image.Prompt)
			if err := d.add(&shown.Groups[len(shown.Groups)-1], image.File, title, alt); err != nil {
				return nil, err
			}
		}
		out = append(out, shown)
	}
	return out, nil
}

// describe says a validation in a line below the slider.
func (v Validated) describe() string {
	words := []string{"step " + units.Count(v.Step)}
	if v.Loss != nil {
		words = append(words, fmt.Sprintf("loss of held-out rows %.4f", *v.Loss))
	}
	if f := v.Fidelity; f != nil {
		words = append(words, "condition followed: "+f.String())
	}
	if f := v.Baseline; f != nil {
		words = append(words, fmt.Sprintf("without the ControlNet: %s %.2f", f.Measure, f.Score))
	}
	return strings.Join(words, " · ")
}

// add adds a picture of the output folder to a group; one without a file is not there.
func (d *diary) add(group *diaryGroup, file, title, alt string) error {
	if file == "" {
		return nil
	}
	source, err := d.once(file, func() (*imaging.RGB, error) {
		_, m, err := imaging.Decoding{}.DecodeFile(filepath.Join(d.run.OutputDir, file))
		return m, err
	})
	group.Images = append(group.Images, diaryImage{source, title, alt})
	return err
}

// once is a picture as the page embeds it. Each is made once: the page is written anew at every validation.
func (d *diary) once(name string, read func() (*imaging.RGB, error)) (source template.URL, err error) {
	source, ok := d.smalls[name]
	if ok {
		return source, nil
	}
	m, err := read()
	if err != nil {
		return "", err
	}
	if source, err = page.Picture(m, diaryPixels); err == nil {
		d.smalls[name] = source
	}
	return source, err
}
