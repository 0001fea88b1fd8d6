package data

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"limner/controlnet/condition"
	"limner/data/imaging"
)

// Batch is the input of one training step on the host: it has BatchSize rows, or those of one part.
type Batch struct {
	Index        int       // within the run, from 0
	Epoch        int       // from 0
	Rows         []int64   // the batch's rows of the dataset; see Dataset.Row
	Pixels       []float32 // [rows, Resolution, Resolution, 3] in [-1, 1]
	Conditioning []float32 // the same shape in [0, 1], -1 where hidden; nil without NeedConditioning
	Masks        []float32 // [rows, Resolution, Resolution, 1] in [0, 1]; nil without MaskColumn
	Captions     []string  // [rows]
	Views        []View    // [rows]
}

// Batches yields the batches of a run in order, without end, and decodes ahead of the consumer. One goroutine may call
// Next.
type Batches struct {
	d      *Dataset
	ctx    context.Context
	cancel context.CancelFunc
	queue  chan *pending
	done   sync.WaitGroup
	err    error
}

// pending is a batch whose rows are being decoded.
type pending struct {
	batch Batch
	left  atomic.Int64
	ready chan struct{} // closed when all rows are decoded, or one has failed
	fail  sync.Once
	err   error // read after ready
}

// slot is one row of a batch to be decoded.
type slot struct {
	p        *pending
	from     *Dataset
	order    *epochOrder
	position int64
	index    int
}

// Batches starts the run at batch start. Batch k depends only on k, the files, Seed, BatchSize, Part and Parts,
// Resolution, BufferBytes and how rows are cropped and flipped, so a run resumed at k gets the same batches as one that
// was not stopped.
func (d *Dataset) Batches(ctx context.Context, start int) (*Batches, error) {
	if err := d.CheckBatches(); err != nil {
		return nil, err
	}
	if start < 0 {
		return nil, fmt.Errorf("batch %d: want 0 or more", start)
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &Batches{d: d, ctx: ctx, cancel: cancel, queue: make(chan *pending, d.options.Prefetch)}
	slots := make(chan slot)
	b.done.Add(1 + d.options.Workers)
	go func() {
		defer b.done.Done()
		defer close(slots)
		b.dispatch(start, slots)
	}()
	for range d.options.Workers {
		go func() {
			defer b.done.Done()
			for s := range slots {
				b.fill(s)
			}
		}()
	}
	return b, nil
}

// dispatch creates batches and sends their rows to the workers. The bounded queue limits how far ahead it gets.
func (b *Batches) dispatch(start int, slots chan<- slot) {
	o := b.d.options
	steps := b.d.StepsPerEpoch()
	rows := o.BatchSize / max(1, o.Parts)
	for k := start; ; k++ {
		epoch := k / steps
		order := b.d.epochOrder(epoch)
		p := &pending{ready: make(chan struct{}), batch: Batch{
			Index: k, Epoch: epoch,
			Rows: make([]int64, rows), Captions: make([]string, rows), Views: make([]View, rows),
			Pixels: make([]float32, rows*o.Resolution*o.Resolution*3),
		}}
		if o.NeedConditioning {
			p.batch.Conditioning = make([]float32, len(p.batch.Pixels))
		}
		if o.MaskColumn != "" {
			p.batch.Masks = make([]float32, len(p.batch.Pixels)/3)
		}
		p.left.Store(int64(rows))
		select {
		case b.queue <- p:
		case <-b.ctx.Done():
			return
		}
		own := b.d.perBatch()
		first := int64(k%steps) * int64(own)
		for index := range rows {
			i := o.Part*rows + index // in the whole batch
			next := slot{p: p, from: b.d, order: order, position: first + int64(i), index: index}
			if class := b.d.class; i >= own {
				at := int64(k)*int64(own) + int64(i-own) // rows of the class have an order of their own
				next.from, next.order, next.position = class, class.epochOrder(int(at/class.places)), at%class.places
			}
			select {
			case slots <- next:
			case <-b.ctx.Done():
				return
			}
		}
	}
}

// fill decodes one row into its place.
func (b *Batches) fill(s slot) {
	row, r, view, err := s.from.fitted(b.ctx, s.order, s.position)
	if err != nil {
		s.p.fail.Do(func() {
			s.p.err = err
			close(s.p.ready)
		})
		return
	}
	batch := &s.p.batch
	size := len(batch.Pixels) / len(batch.Rows)
	from, to := s.index*size, (s.index+1)*size
	if s.from != b.d {
		row += b.d.rows
	}
	batch.Rows[s.index], batch.Captions[s.index], batch.Views[s.index] = row, r.Caption, view
	imaging.AppendPixels(batch.Pixels[from:from:to], r.Image)
	switch {
	case r.depth != nil:
		r.depth.AppendFloats(batch.Conditioning[from:from:to])
	case r.Conditioning != nil:
		condition.AppendFloats(batch.Conditioning[from:from:to], r.Conditioning, r.hidden)
	}
	if r.Mask != nil {
		imaging.AppendGray(batch.Masks[from/3:from/3:to/3], r.Mask)
	}
	if s.p.left.Add(-1) == 0 {
		close(s.p.ready)
	}
}

// Next waits for the next batch. It fails when ctx is cancelled, when Batches is closed, and when
// the dataset has no good row.
func (b *Batches) Next() (*Batch, error) {
	if b.err != nil {
		return nil, b.err
	}
	if err := b.ctx.Err(); err != nil {
		return nil, b.stop(err)
	}
	select {
	case p := <-b.queue:
		select {
		case <-p.ready:
			if p.err != nil {
				return nil, b.stop(p.err)
			}
			return &p.batch, nil
		case <-b.ctx.Done():
		}
	case <-b.ctx.Done():
	}
	return nil, b.stop(b.ctx.Err())
}

func (b *Batches) stop(err error) error {
	b.err = fmt.Errorf("read batch: %w", err)
	b.cancel()
	return b.err
}

// Close stops the decoding and waits for it to end. It may be called twice.
func (b *Batches) Close() {
	b.cancel()
	b.done.Wait()
	if b.err == nil {
		b.err = errors.New("read batch: closed")
	}
}
