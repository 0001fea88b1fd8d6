package sample

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"limner/xla"
	"limner/xla/program"
)

// tileOverlap is the share of a tile that is its neighbour's too.
const tileOverlap = 0.25

// tiled says whether images are larger than a tile.
func (p *Pipeline) tiled() bool {
	tile := p.tileSize()
	return p.model.VAETiling && (p.latentHeight() > tile || p.latentWidth() > tile)
}

// tileSize is the side of a tile, in latents: that of the images that the VAE was trained on.
func (p *Pipeline) tileSize() int {
	vae := p.model.Pipeline.VAE
	return max(1, vae.SampleSize/vae.Scale())
}

// decodePieces decodes latents [batch, height/8, width/8, channels] in pieces to pixels float32 [batch, height, width,
// 3] in [0, 1].
func (p *Pipeline) decodePieces(ctx context.Context, latents []float32) ([]float32, error) {
	images := p.shape.Batch
	if p.model.VAESlicing {
		images = p.backend.Devices()
	}
	var out []float32
	for slice := range slices.Chunk(latents, images*p.latentSize()) {
		pixels, err := p.decodeTiles(ctx, raster{images, p.latentHeight(), p.latentWidth(), p.channels(), slice})
		if err != nil {
			return nil, fmt.Errorf("decode images: %w", err)
		}
		out = append(out, pixels.values...)
	}
	return out, nil
}

// decodeTiles decodes latents tile by tile.
func (p *Pipeline) decodeTiles(ctx context.Context, latents raster) (raster, error) {
	tile, scale := p.tileSize(), p.model.Pipeline.VAE.Scale()
	stride := int(float64(tile) * (1 - tileOverlap))
	blended := int(float64(tile*scale) * tileOverlap)
	limit := tile*scale - blended
	out := newRaster(latents.images, latents.height*scale, latents.width*scale, 3)
	var above []raster // the row of tiles before
	for y := 0; y < latents.height; y += stride {
		var row []raster
		for x := 0; x < latents.width; x += stride {
			t, err := p.decodePiece(ctx, latents.cut(y, x, min(tile, latents.height-y), min(tile, latents.width-x)))
			if err != nil {
				return raster{}, err
			}
			// What is blended goes into the next blending, as in diffusers.
			if above != nil {
				t.blendBelow(above[len(row)], blended)
			}
			if len(row) > 0 {
				t.blendRight(row[len(row)-1], blended)
			}
			row = append(row, t)
			out.paste(t.cut(0, 0, min(limit, t.height), min(limit, t.width)), y/stride*limit, x/stride*limit)
		}
		above = row
	}
	return out, nil
}

// decodePiece decodes latents by a program for their size.
func (p *Pipeline) decodePiece(ctx context.Context, latents raster) (raster, error) {
	key := pieceKey{latents.images, latents.height, latents.width}
	name := fmt.Sprintf("the decoder of pieces (%d images, %d×%d latents)", key.images, key.width, key.height)
	decoder, err := kept(ctx, p, p.pieces, key, name, p.decodePieceFunction)
	if err != nil {
		return raster{}, err
	}
	in, err := xla.Put(p.backend, latents.values, xla.Batch, latents.images, latents.height,
		latents.width, latents.channels)
	if err != nil {
		return raster{}, err
	}
	out, err := p.apply(decoder, program.Arrays{inputLatents: in})
	if err != nil {
		return raster{}, err
	}
	scale := p.model.Pipeline.VAE.Scale()
	pixels := raster{latents.images, latents.height * scale, latents.width * scale, 3, nil}
	if pixels.values, err = xla.Get[float32](out[outputImages]); err != nil {
		return raster{}, err
	}
	return pixels, errors.Join(in.Free(), out.Free())
}

// raster are images [images, height, width, channels] on the host.
type raster struct {
	images, height, width, channels int
	values                          []float32
}

func newRaster(images, height, width, channels int) raster {
	return raster{images, height, width, channels, make([]float32, images*height*width*channels)}
}

// row is a row of an image, from a column on.
func (r raster) row(image, y, x int) []float32 {
	return r.values[((image*r.height+y)*r.width+x)*r.channels : (image*r.height+y+1)*r.width*r.channels]
}

// cut copies a part.
func (r raster) cut(y, x, height, width int) raster {
	out := newRaster(r.images, height, width, r.channels)
	for i := range r.images {
		for row := range height {
			copy(out.row(i, row, 0), r.row(i, y+row, x))
		}
	}
	return out
}

// paste copies part to (y, x), as far as it is inside.
func (r raster) paste(part raster, y, x int) {
	for i := range r.images {
		for row := range min(part.height, r.height-y) {
			copy(r.row(i, y+row, x), part.row(i, row, 0))
		}
	}
}

// blendBelow lets the first rows begin as the last rows of the tile above end.
func (r raster) blendBelow(above raster, extent int) {
	extent = min(extent, above.height, r.height)
	for i := range r.images {
		for y := range extent {
			mix(r.row(i, y, 0), above.row(i, above.height-extent+y, 0), float32(y)/float32(extent))
		}
	}
}

// blendRight lets the first columns begin as the last columns of the tile to the left end.
func (r raster) blendRight(left raster, extent int) {
	extent = min(extent, left.width, r.width)
	for i := range r.images {
		for y := range r.height {
			for x := range extent {
				c := r.channels
				mix(r.row(i, y, x)[:c], left.row(i, y, left.width-extent+x)[:c], float32(x)/float32(extent))
			}
		}
	}
}

// mix takes a share of x and the rest of other into x.
func mix(x, other []float32, share float32) {
	for i := range x {
		x[i] = other[i]*(1-share) + x[i]*share
	}
}
