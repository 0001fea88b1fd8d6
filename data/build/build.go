package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"limner/controlnet/condition"
	"limner/data"
	"limner/data/imaging"
	"limner/internal/disk"
	"limner/internal/parquetfile"
	"limner/internal/refusal"
	"limner/internal/units"
)

// Job is a dataset that is to be made.
type Job struct {
	In  []string // what [data.Open] opens
	Out string   // a folder, which must be new or empty
	// HeldOut is what [data.Open] opens for the split validation where none is drawn; nil: In, if it has such a split.
	HeldOut []string
	// Reading says what is read: the columns, and whether there are conditioning images and masks. What concerns
	// batches is ignored.
	Reading data.Options
	Settings
	Program  string                // recorded as what made the dataset
	Log      io.Writer             // what is read, and what cannot be used of it; nil: no log
	Progress func(p Progress)      // called after each row; nil: not called
	failures func(at string) error // of tests: an error for a moment of the work
}

// Progress is how far a build is.
type Progress struct {
	Done, Total int // rows
	LeftOut     int // of those that are done
}

// Summary is what a build has made.
type Summary struct {
	Rows    int            // that were read
	Splits  []SplitSummary // train first
	LeftOut map[string]int // rows by reason
	Copied  int            // rows whose image is the file that was read
	More    int            // rows with captions that were not written
}

// SplitSummary is a split of the dataset.
type SplitSummary struct {
	Name  string
	Rows  int
	Files int
	Bytes int64
}

// ErrInterrupted says that a build was stopped. Its finished files are kept, and the same build goes on with them.
var ErrInterrupted = errors.New("interrupted")

// The splits that are written.
const (
	splitTrain      = string(data.SplitTrain)
	splitValidation = string(data.SplitValidation)
)

// builder is a build that runs.
type builder struct {
	job Job
	*preparer
	sets  []*data.Dataset // of train and, if the source has that split, of validation; rows are numbered through
	work  *work
	known *duplicates
	read  from // what is read

	replay  func() (int, entryOrError, bool) // what the journals have; nil: that is taken
	parts   []part                           // that are finished
	open    *shard                           // nil: none is begun
	pending []entry                          // of rows since the last finished file
	bytes   int64                            // of the open file's rows

	done    int
	counts  map[string]int // rows that are kept, by split
	numbers map[string]int // files, by split
	summary Summary
}

// Run makes the dataset, or goes on with one that was begun. Out appears complete or not at all. A build that is
// stopped or fails keeps its finished files beside Out, and says so; the same job goes on with them.
func (j Job) Run(ctx context.Context) (summary Summary, err error) {
	if err := j.Validate(); err != nil {
		return Summary{}, refusal.Error{Err: err}
	}
	j.Out = filepath.Clean(j.Out)
	if err := CheckOut(j.Out); err != nil {
		return Summary{}, err
	}
	p, err := newPreparer(j.Settings, j.Reading)
	if err != nil {
		return Summary{}, refusal.Error{Err: err}
	}
	sets, err := open(j, p)
	if err != nil {
		return Summary{}, refusal.Error{Err: err}
	}
	defer func() {
		for _, set := range sets {
			err = errors.Join(err, set.Close())
		}
	}()
	b := &builder{
		job: j, preparer: p, sets: sets, known: newDuplicates(j.Duplicates),
		counts: map[string]int{}, numbers: map[string]int{}, summary: Summary{LeftOut: map[string]int{}},
	}
	if err := b.lookAhead(); err != nil {
		return Summary{}, refusal.Error{Err: err}
	}
	key, err := b.key()
	if err != nil {
		return Summary{}, err
	}
	if b.work, err = openWork(j.Out, key); err != nil {
		return Summary{}, err
	}
	if err := b.run(ctx); err != nil {
		return Summary{}, errors.Join(b.stopped(err), b.work.close())
	}
	return b.summary, b.work.remove()
}

// open opens the dataset that is read: with its conditioning images if it has any and none are taken from the images,
// and with its split validation if none is drawn and no other split is asked for.
func open(j Job, p *preparer) (sets []*data.Dataset, err error) {
	o := p.reading
	set, err := data.Open(j.In, o)
	if err != nil {
		return nil, err
	}
	columns, others := set.Columns(), set.OtherSplits()
	if err := set.Close(); err != nil {
		return nil, err
	}
	if p.spec.None() {
		named := o.ConditioningDataDir != "" || slices.Contains(columns, o.ConditioningImageColumn) ||
			slices.Contains(columns, o.ConditioningImageColumn+"_file_name")
		if o.NeedConditioning = true; !named { // those of fill50k and of tar files have other names
			if o.NeedConditioning, err = opens(j, o); err != nil {
				return nil, err
			}
		}
	}
	o.Log, p.reading = j.Log, o
	splits := [][]string{j.In}
	switch {
	case p.ValidationCount > 0 || p.ValidationFraction > 0:
	case len(j.HeldOut) > 0:
		splits = append(splits, j.HeldOut)
	case o.Split == "" && slices.Contains(others, data.SplitValidation):
		splits = append(splits, j.In)
	}
	p.compares = p.compares || len(splits) > 1
	for i, paths := range splits {
		o.HeldOut = i > 0
		set, err := data.Open(paths, o)
		if err != nil {
			for _, open := range sets {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// opens says whether a dataset can be read so, and logs why if it cannot.
func opens(j Job, o data.Options) (bool, error) {
	set, err := data.Open(j.In, o)
	if err != nil && j.Log != nil {
		fmt.Fprintf(j.Log, "no conditioning images are read: %s\n", err)
	}
	if err != nil {
		return false, nil
	}
	return true, set.Close()
}

// rows is how many rows there are.
func (b *builder) rows() (n int) {
	for _, set := range b.sets {
		n += set.Len()
	}
	return n
}

// at is the set that has a row, and its number there.
func (b *builder) at(row int) (*data.Dataset, int) {
	if n := b.sets[0].Len(); row >= n {
		return b.sets[1], row - n
	}
	return b.sets[0], row
}

// CheckOut fails if the folder holds something or cannot be written.
func CheckOut(out string) error {
	entries, err := disk.Content(out)
	if len(entries) > 0 {
		return refusal.Errorf("output folder %s holds something (%s): name another, or empty it",
			out, entries[0].Name())
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = disk.Writable(filepath.Dir(out))
	}
	if err != nil {
		return refusal.Errorf("output folder: %w", err)
	}
	return nil
}

// stopped says what is kept of a build that has failed.
func (b *builder) stopped(err error) error {
	rows := 0
	for _, p := range b.parts {
		rows += p.Rows
	}
	if b.open != nil {
		err = errors.Join(err, b.open.abandon()) // so that a full disk is not full
	}
	kept := fmt.Sprintf("%d rows in %d finished files are kept in %s: the same command goes on with them",
		rows, len(b.parts), b.work.dir)
	if rows == 0 {
		kept = "no file was finished"
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w; %s", ErrInterrupted, kept)
	}
	return fmt.Errorf("%w; %s", err, kept)
}

// newPreparer reads the settings.
func newPreparer(s Settings, reading data.Options) (p *preparer, err error) {
	p = &preparer{Settings: s, reading: reading, filter: reading.Interpolation}
	if p.filter == "" {
		p.filter = imaging.Bilinear
	}
	if p.template, err = parseTemplate(s.Caption); err != nil {
		return nil, err
	}
	if s.Condition != "" {
		if p.spec, err = condition.Parse(s.Condition); err != nil {
			return nil, err
		}
	}
	if s.BucketArea > 0 {
		p.buckets = buckets(s.BucketArea)
	}
	if s.Caption != "" && !p.template.needsCaption() {
		p.reading.NoCaptions = true
	}
	p.compares = s.Duplicates != dropNone || s.ValidationCount > 0 || s.ValidationFraction > 0
	p.reading.Extra = s.extra()
	// Rows are read on all cores, and as many ahead.
	p.reading.Resolution, p.reading.BatchSize, p.reading.Part, p.reading.Parts = 0, 4, 0, 0
	p.reading.RandomCrop, p.reading.RandomFlip = false, false
	p.reading.ForceFlip, p.reading.ShuffleTags, p.reading.KeepTokens = false, false, 0
	p.reading.NeedConditioning, p.reading.Condition = false, ""
	return p, nil
}

// probed is how many of the first rows are looked at for what columns there are.
const probed = 16

// lookAhead finds the columns that are written.
func (b *builder) lookAhead() error {
	have, captions := map[string]bool{}, 0
	for i := range min(probed, b.sets[0].Len()) {
		r, err := b.sets[0].Row(i)
		if err != nil {
			continue
		}
		for name := range r.Extra {
			have[name] = true
		}
		captions = max(captions, len(r.Captions))
	}
	var missing []string
	need := func(names ...string) {
		for _, name := range names {
			if !have[name] && !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
		}
	}
	need(b.template.columns()...)
	need(b.Keep...)
	for _, scores := range []map[string]float64{b.MinScore, b.MaxScore} {
		for name := range scores {
			need(name)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		return fmt.Errorf("none of the first %d rows has the column %s, which caption, keep_columns or a score names",
			min(probed, b.sets[0].Len()), strings.Join(missing, ", "))
	}
	add := func(name string, kind parquetfile.Kind, wanted bool) {
		if wanted {
			b.columns = append(b.columns, parquetfile.Column{Name: name, Kind: kind})
		}
	}
	add(columnImage, parquetfile.Pictures, true)
	add(columnConditioning, parquetfile.Pictures, b.reading.NeedConditioning || !b.spec.None())
	add(columnMask, parquetfile.Pictures, b.reading.MaskColumn != "")
	add(columnText, parquetfile.Text,
		!b.reading.NoCaptions || b.Caption != "" || b.CaptionPrefix != "" || b.TriggerWord != "")
	add(columnCaptions, parquetfile.Texts, captions > 1)
	add(columnCondition, parquetfile.Text, !b.spec.None())
	kept := b.Keep
	if len(kept) == 0 {
		kept = keptByDefault
	}
	for _, name := range kept {
		add(name, parquetfile.Text, have[name])
	}
	return nil
}

// key is what is built of what: a build goes on only with the same.
func (b *builder) key() ([]byte, error) {
	var err error
	if b.read, err = b.from(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(map[string]any{
		"program": b.job.Program, "settings": b.recorded(), "columns": b.columns, "from": b.read,
	}, "", "  ")
}

// run reads the rows, writes what is left of them, and publishes it.
func (b *builder) run(ctx context.Context) error {
	parts, err := b.work.parts()
	if err != nil {
		return err
	}
	if err := b.work.clean(parts); err != nil {
		return err
	}
	next, stop := iter.Pull2(b.work.entries(len(parts)))
	defer stop()
	b.replay = next
	for _, p := range parts {
		b.keep(p)
	}
	split := ""
	for s := range b.steps() {
		if split != "" && s.split != split {
			if err := b.finish(split); err != nil {
				return err
			}
		}
		split = s.split
		if err := b.take(ctx, s); err != nil {
			return err
		}
	}
	if err := b.finish(split); err != nil {
		return err
	}
	if b.counts[splitTrain] == 0 {
		return fmt.Errorf("no row is left for %s: %s", splitTrain, b.summary.reasons())
	}
	return b.publish(ctx)
}

// keep counts a finished file.
func (b *builder) keep(p part) {
	b.parts = append(b.parts, p)
	if p.Rows > 0 {
		b.numbers[p.Split]++
	}
}

// step is a list of rows of a set that are read in their order for a split.
type step struct {
	split string
	set   int
	rows  []int
}

// drawStream separates the draw of validation rows from others of the same seed.
const drawStream = 0x76616c73

// steps yields what is read: first rows for validation, in the order that the seed draws, as many as are still missing
// each time, and then the others for train. So no row that is left out counts, and what train leaves out because
// validation has its like does not change what validation has. A split validation of the source comes first, too.
func (b *builder) steps() iter.Seq[step] {
	return func(yield func(step) bool) {
		if len(b.sets) > 1 && !yield(step{splitValidation, 1, allOf(b.sets[1].Len())}) {
			return
		}
		n := b.sets[0].Len()
		want := b.ValidationCount
		if b.ValidationFraction > 0 {
			want = int(math.Ceil(b.ValidationFraction * float64(n)))
		}
		taken := make([]bool, n)
		if want > 0 {
			order := rand.New(rand.NewPCG(b.Seed^drawStream, 0)).Perm(n)
			for b.counts[splitValidation] < want && len(order) > 0 {
				rows := slices.Clone(order[:min(want-b.counts[splitValidation], len(order))])
				order = order[len(rows):]
				slices.Sort(rows)
				for _, row := range rows {
					taken[row] = true
				}
				if !yield(step{splitValidation, 0, rows}) {
					return
				}
			}
		}
		var rest []int
		for row := range n {
			if !taken[row] {
				rest = append(rest, row)
			}
		}
		yield(step{splitTrain, 0, rest})
	}
}

// allOf are the numbers of n rows.
func allOf(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// take does what a step asks for: first what the journals have of it.
func (b *builder) take(ctx context.Context, s step) error {
	rows, set, first := s.rows, b.sets[s.set], 0
	if s.set > 0 {
		first = b.sets[0].Len()
	}
	for len(rows) > 0 && b.replay != nil {
		_, e, ok := b.replay()
		if !ok {
			b.replay = nil
			break
		}
		if e.err == nil && e.Row != first+rows[0] {
			e.err = fmt.Errorf("the journal has row %d in place of %d", e.Row, first+rows[0])
		}
		if e.err == nil {
			e.err = b.count(s.split, e.entry)
		}
		if e.err != nil {
			return fmt.Errorf("%w: remove %s to begin anew", e.err, b.work.dir)
		}
		rows = rows[1:]
	}
	prepare := func(i int, r data.Row, err error) made {
		if err != nil {
			return unreadable(set, i, err)
		}
		return b.prepare(i, r)
	}
	for row, m := range data.MapRows(set, rows, prepare) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if m.err != nil {
			return m.err
		}
		if err := b.append(s.split, first+row, m); err != nil {
			return err
		}
		if b.job.Progress != nil {
			left := 0
			for _, n := range b.summary.LeftOut {
				left += n
			}
			b.job.Progress(Progress{Done: b.done, Total: b.rows(), LeftOut: left})
		}
	}
	return nil
}

// unreadable leaves out a row that cannot be read.
func unreadable(set *data.Dataset, i int, err error) made {
	file, row, _ := set.Origin(i)
	return leave(leftUnreadable, "%s", strings.TrimPrefix(err.Error(), data.BadRow{File: file, Row: row}.String()))
}

// append decides about a row and writes it.
func (b *builder) append(split string, row int, m made) error {
	e := entry{Row: row, Why: m.why, Detail: m.detail}
	if e.Why == "" && b.compares {
		why, place := b.known.find(&m.likeness, split == splitTrain)
		if why != "" {
			set, first := b.at(place)
			file, number, image := set.Origin(first)
			e.Why, e.Detail = why, strings.TrimSpace(fmt.Sprintf("of %s row %d %s", file, number, image))
		} else {
			e.setLikeness(&m.likeness)
		}
	}
	if e.Why == "" {
		e.Copied, e.More = m.copied, m.more
		if b.open != nil && b.bytes > 0 && b.bytes+m.bytes > b.ShardBytes {
			if err := b.finish(split); err != nil {
				return err
			}
		}
		if err := b.write(split, m); err != nil {
			return fmt.Errorf("write %s: %w", b.work.path(workSet), err)
		}
	}
	b.pending = append(b.pending, e)
	return b.count(split, e)
}

// write appends a row to the open file, or begins one.
func (b *builder) write(split string, m made) error {
	if b.open == nil {
		p := part{Split: split, Number: b.numbers[split]}
		s, err := newShard(b.work.path(workSet, dataFolder, p.name()), p, b.columns, b.BucketArea)
		if err != nil {
			return err
		}
		b.open, b.bytes = s, 0
	}
	b.bytes += m.bytes
	return b.open.write(m.values)
}

// count counts a row that was decided about.
func (b *builder) count(split string, e entry) error {
	b.done++
	if e.Why != "" {
		b.summary.LeftOut[e.Why]++
		if e.Why == leftUnreadable && b.summary.LeftOut[e.Why] > b.MaxBadRows {
			return fmt.Errorf("%d rows cannot be read, more than max_bad_rows; the last: %s",
				b.summary.LeftOut[e.Why], e.Detail)
		}
		return nil
	}
	b.counts[split]++
	if e.Copied {
		b.summary.Copied++
	}
	if e.More {
		b.summary.More++
	}
	if !b.compares {
		return nil
	}
	l, err := e.likeness()
	if err != nil {
		return err
	}
	b.known.add(&l, split == splitTrain, e.Row)
	return nil
}

// finish ends the open file: it is put on the disk, and then its journal.
func (b *builder) finish(split string) error {
	if len(b.pending) == 0 {
		return nil
	}
	p := part{Split: split}
	if b.open != nil {
		if err := b.open.finish(); err != nil {
			return fmt.Errorf("write %s: %w", b.work.path(workSet), err)
		}
		p = b.open.part
	}
	if err := b.failure("journal"); err != nil {
		return err
	}
	if err := b.work.writeJournal(len(b.parts), p, b.pending); err != nil {
		return fmt.Errorf("write %s: %w", b.work.dir, err)
	}
	b.open, b.pending = nil, nil
	b.keep(p)
	return b.failure("finished")
}

// failure is what a test makes fail.
func (b *builder) failure(at string) error {
	if b.job.failures == nil {
		return nil
	}
	return b.job.failures(at)
}

// Reasons are those for which rows were left out, the most frequent first.
func (s Summary) Reasons() []string {
	var all []string
	for why := range s.LeftOut {
		all = append(all, why)
	}
	slices.SortFunc(all, func(a, b string) int {
		if n := s.LeftOut[b] - s.LeftOut[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	return all
}

// reasons lists why rows were left out.
func (s Summary) reasons() string {
	var parts []string
	for _, why := range s.Reasons() {
		parts = append(parts, fmt.Sprintf("%d %s", s.LeftOut[why], why))
	}
	return strings.Join(parts, ", ")
}

// String says in some words what was made.
func (s Summary) String() string {
	var parts []string
	kept := 0
	for _, split := range s.Splits {
		kept += split.Rows
		parts = append(parts, fmt.Sprintf("%s: %d rows, %s in %d parquet files",
			split.Name, split.Rows, units.Bytes(split.Bytes), split.Files))
	}
	if n := s.Rows - kept; n > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d rows left out, which %s/%s names: %s",
			n, s.Rows, recordFolder, leftOutName, s.reasons()))
	}
	if s.Copied > 0 {
		parts = append(parts, fmt.Sprintf("%d images copied as they were", s.Copied))
	}
	if s.More > 0 {
		parts = append(parts, fmt.Sprintf("of %d rows with several captions the first is written, since none of the "+
			"first %d rows has several", s.More, probed))
	}
	return strings.Join(parts, "; ")
}
