// Package build makes a dataset in HF's layout out of one in any layout: it leaves out what filters find, resizes
// pictures, takes conditions, writes captions, and divides rows into splits. A build that was killed goes on where it
// was, and the same input and settings give the same bytes.
package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"limner/controlnet/condition"
	"limner/data"
)

// Settings say what becomes of the rows: flags of limner data build.
type Settings struct {
	Resolution int    `json:"resolution" default:"512" group:"images" help:"Side of the pictures, in pixels: the shorter side is resized to it and the centre cropped, as diffusers' scripts do. 0 leaves pictures as they are."`
	BucketArea int    `json:"bucket_area,omitempty" placeholder:"SIDE" group:"images" help:"Instead of one size, sizes in steps of 64 of at most SIDE×SIDE pixels, for each picture the one nearest to its shape. Training needs one size so far."`
	Format     string `json:"format" default:"png" enum:"png,jpeg" group:"images" help:"png, or jpeg of quality 95 with chroma of half the size, as Pillow writes it. Conditioning images and masks are PNG. A PNG or JPEG file in which nothing would change is copied."`
	Condition  string `json:"condition,omitempty" placeholder:"CONDITION" group:"images" help:"Take conditioning images from the resized pictures, such as canny or 'canny(low=rand(50, 150), high=rand(150, 250))'. What was drawn for a row is in the column condition."`

	Caption       string   `json:"caption,omitempty" placeholder:"TEXT" group:"data" help:"Caption of every row, in which {name} is the row's column of that name: 'a photo of {class}'; {text} is the caption that it has."`
	CaptionPrefix string   `json:"caption_prefix,omitempty" placeholder:"TEXT" group:"data" help:"Text before every caption."`
	TriggerWord   string   `json:"trigger_word,omitempty" placeholder:"WORD" group:"data" help:"Word before every caption, with a comma, unless the caption has it."`
	Keep          []string `json:"keep_columns,omitempty" name:"keep-columns" placeholder:"NAME" group:"data" help:"Columns of texts to keep; without it source, license, licence and url where the first rows have them."`

	ValidationFraction float64 `json:"validation_fraction,omitempty" placeholder:"X" group:"validation" help:"Share of the rows that is drawn for the split validation."`
	ValidationCount    int     `json:"validation_count,omitempty" placeholder:"N" group:"validation" help:"Rows that are drawn for the split validation, of those that are not left out."`
	Seed               uint64  `json:"seed" default:"0" group:"validation" help:"Of what is drawn: rows for validation, parameters of conditions."`

	MinSide               int                `json:"min_side,omitempty" placeholder:"PIXELS" group:"filters" help:"Leave out pictures whose shorter side is less."`
	MaxAspect             float64            `json:"max_aspect,omitempty" placeholder:"X" group:"filters" help:"Leave out pictures whose longer side is more than X times the shorter one."`
	MinSharpness          float64            `json:"min_sharpness,omitempty" placeholder:"X" group:"filters" help:"Leave out blurred pictures: those whose Laplacian has a variance below X. A blurred photograph has less than about 100, a sharp one 1000; a drawing has little however sharp it is."`
	MinVariation          float64            `json:"min_variation,omitempty" placeholder:"X" group:"filters" help:"Leave out blank pictures: those in which less than this share of the pixels differs from the background (0.002: next to nothing is shown)."`
	MinConditionVariation float64            `json:"min_condition_variation,omitempty" placeholder:"X" group:"filters" help:"Leave out rows whose conditioning image is blank, by the same measure."`
	DropEmptyCaptions     bool               `json:"drop_empty_captions,omitempty" group:"filters" help:"Leave out rows whose captions are all empty."`
	DropBlackMasks        bool               `json:"drop_black_masks,omitempty" group:"filters" help:"Leave out rows whose mask is all black, which training passes over."`
	MinScore              map[string]float64 `json:"min_score,omitempty" placeholder:"COLUMN=X" group:"filters" help:"Leave out rows whose column is below X: aesthetic=5, similarity=0.25."`
	MaxScore              map[string]float64 `json:"max_score,omitempty" placeholder:"COLUMN=X" group:"filters" help:"Leave out rows whose column is above X: pwatermark=0.5."`
	Duplicates            string             `json:"duplicates" default:"near" enum:"near,exact,keep" group:"filters" help:"near: leave out all but the first of pictures that differ by encoding, quality or size alone; it finds no crops, no mirrored, no retouched copies. exact: of those with the same pixels. keep: none. train never has a picture like one of validation."`
	MaxBadRows            int                `json:"-" default:"100" group:"filters" help:"Rows that cannot be read and are left out; one more ends the build."`

	ShardBytes int64 `json:"shard_bytes" default:"500000000" group:"output" help:"Bytes of a parquet file, about."`
}

// keptByDefault are the columns that are kept where the first rows have them.
var keptByDefault = []string{"source", "license", "licence", "url"}

// leastBucketArea is the least side whose area is divided into buckets.
const leastBucketArea = 2 * bucketStep

// Validate reports every unusable field.
func (s Settings) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Resolution < 0 || s.Resolution > data.MaxResolution {
		wrong("resolution %d: want 1 to %d pixels, or 0", s.Resolution, data.MaxResolution)
	}
	if s.BucketArea != 0 && (s.BucketArea < leastBucketArea || s.BucketArea > data.MaxResolution) {
		wrong("bucket_area %d: want %d to %d pixels", s.BucketArea, leastBucketArea, data.MaxResolution)
	}
	if !slices.Contains([]string{"png", "jpeg"}, s.Format) {
		wrong("format %q: want png or jpeg", s.Format)
	}
	if s.Condition != "" {
		if c, err := condition.Parse(s.Condition); err != nil {
			errs = append(errs, err)
		} else if k := c.Kind(); k.Keypoints || k.Hides {
			wrong("condition %s is made while training alone: give it to limner train controlnet --condition", k.Name)
		}
	}
	if _, err := parseTemplate(s.Caption); err != nil {
		wrong("caption: %w", err)
	}
	if !(s.ValidationFraction >= 0 && s.ValidationFraction < 1) {
		wrong("validation_fraction %g: want 0 to below 1", s.ValidationFraction)
	}
	if s.ValidationCount < 0 {
		wrong("validation_count %d: want 0 or more", s.ValidationCount)
	}
	if s.ValidationCount > 0 && s.ValidationFraction > 0 {
		wrong("validation_fraction and validation_count both say how many rows are drawn: give one")
	}
	if s.MinSide < 0 {
		wrong("min_side %d: want 0 or more pixels", s.MinSide)
	}
	if s.MaxAspect != 0 && !(s.MaxAspect >= 1) {
		wrong("max_aspect %g: want 1 or more", s.MaxAspect)
	}
	if !(s.MinSharpness >= 0) {
		wrong("min_sharpness %g: want 0 or more", s.MinSharpness)
	}
	if !(s.MinVariation >= 0 && s.MinVariation <= 1) {
		wrong("min_variation %g: want 0 to 1", s.MinVariation)
	}
	if !(s.MinConditionVariation >= 0 && s.MinConditionVariation <= 1) {
		wrong("min_condition_variation %g: want 0 to 1", s.MinConditionVariation)
	}
	if !slices.Contains([]string{dropNear, dropExact, dropNone}, s.Duplicates) {
		wrong("duplicates %q: want near, exact or keep", s.Duplicates)
	}
	if s.MaxBadRows < 0 {
		wrong("max_bad_rows %d: want 0 or more", s.MaxBadRows)
	}
	if s.ShardBytes < 1 {
		wrong("shard_bytes %d: want at least 1", s.ShardBytes)
	}
	for _, name := range s.Keep {
		if slices.Contains(ownColumns, name) || strings.TrimSpace(name) == "" {
			wrong("keep_columns %q: that is a column which is written anyway, or none", name)
		}
	}
	return errors.Join(errs...)
}

// extra are the further columns that are read of the rows.
func (s Settings) extra() []string {
	names := slices.Clone(s.Keep)
	if len(names) == 0 {
		names = slices.Clone(keptByDefault)
	}
	t, err := parseTemplate(s.Caption)
	if err == nil {
		names = append(names, t.columns()...)
	}
	for _, scores := range []map[string]float64{s.MinScore, s.MaxScore} {
		for name := range scores {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
