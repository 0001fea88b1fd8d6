package data

import (
	"errors"
	"fmt"
)

// OpenBoth opens a dataset whose batches are half its own rows and then half rows of a class, as DreamBooth's prior
// preservation needs. The class's rows are numbered after the dataset's own.
func OpenBoth(paths, class []string, o Options) (*Dataset, error) {
	d, err := Open(paths, o)
	if err != nil {
		return nil, err
	}
	o.NoCaptions, o.MaxTrainSamples, o.ShuffleTags, o.KeepTokens = true, 0, false, 0
	if d.class, err = Open(class, o); err != nil {
		return nil, errors.Join(fmt.Errorf("class images: %w", err), d.Close())
	}
	return d, nil
}
