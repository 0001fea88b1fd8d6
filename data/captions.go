package data

import (
	"errors"
	"fmt"
	"strings"
)

// Streams separate the random draws of captions, and of the order of their tags, from others of the same seed.
const (
	captionStream = 0x63617074
	tagStream     = 0x74616773
)

// drawCaption chooses among the captions of a row that has several, by the seed and the occurrence, and shuffles its
// tags if asked to.
func (d *Dataset) drawCaption(r *Row, at occurrence) {
	if len(r.Captions) > 1 {
		r.Caption = r.Captions[at.rng(d.options.Seed, captionStream).IntN(len(r.Captions))]
	}
	if d.options.ShuffleTags {
		r.Caption = d.shuffleTags(r.Caption, at)
	}
}

// shuffleTags shuffles what commas separate in a caption, but for the first KeepTokens, as shuffle_caption of kohya's
// sd-scripts does. Tags are trimmed, and empty ones left out.
func (d *Dataset) shuffleTags(caption string, at occurrence) string {
	var tags []string
	for tag := range strings.SplitSeq(caption, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	rest := tags[min(d.options.KeepTokens, len(tags)):]
	at.rng(d.options.Seed, tagStream).Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return strings.Join(tags, ", ")
}

// checkTags fails for settings of tags that are out of range, or have nothing to shuffle.
func (o Options) checkTags() error {
	switch {
	case o.KeepTokens < 0:
		return fmt.Errorf("keep_tokens %d: want 0 or more tags", o.KeepTokens)
	case o.KeepTokens > 0 && !o.ShuffleTags:
		return errors.New("keep_tokens: it says which tags --shuffle_tags leaves in place, which was not given")
	case o.ShuffleTags && o.NoCaptions:
		return errors.New("shuffle_tags: no captions are read of these rows, whose tags it would shuffle: leave it out")
	}
	return nil
}
