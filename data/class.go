package data

import (
	"errors"
	"fmt"
)

// OpenBoth opens a data set whose batches are one half of its own rows and, behind them, one half of rows of a class:
// what DreamBooth's prior preservation needs. Rows of the class have the numbers after the others'.
func OpenBoth(paths, class []string, o Options) (*Dataset, error) {
	d, err := Open(paths, o)
	if err != nil {
		return nil, err
	}
	o.NoCaptions = true
	if d.class, err = Open(class, o); err != nil {
		return nil, errors.Join(fmt.Errorf("class images: %w", err), d.Close())
	}
	return d, nil
}
