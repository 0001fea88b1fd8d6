package train

import (
	"context"
	"errors"
	"fmt"

	"limner/data"
	"limner/train/latents"
)

// Encode encodes a dataset. Once ctx is done it fails with ErrInterrupted.
func Encode(ctx context.Context, e latents.Encoder, d *data.Dataset) (latents.Moments, error) {
	m, err := e.Encode(ctx, d)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w while encoding the dataset: nothing was lost, the same command starts again",
			ErrInterrupted)
	}
	return m, err
}
