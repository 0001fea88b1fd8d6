package mosaic

// Softmax attention without its matrix of scores in main memory (Dao et al. 2022, arXiv:2205.14135). Each point of the
// grid has all keys and a part of the queries of one head. Arrays are [heads of all images, width of a head, tokens]:
// tokens are along the lanes, so that heads narrower than 128 need no padding; scores are [keys, queries], so that sums
// over keys run over rows.

// vectorMemory is the part of a core's 16 MB that a kernel's blocks and matrices may use, in bytes.
const vectorMemory = 14 << 20

// Attention are the shapes of an attention: queries and keys are numbers of tokens.
type Attention struct {
	Heads, Width, Queries, Keys int // Heads of all images
}

// part is how many queries a point of the grid takes, 0 if not even 128 fit. keys, scores and queries are the bytes
// needed for each element of the keys, the scores and the queries.
func (a Attention) part(keys, scores, queries int) int {
	for _, part := range []int{512, 256, 128} {
		if a.Queries%part == 0 && a.Keys*(a.Width*keys+part*scores)+a.Width*part*queries <= vectorMemory {
			return part
		}
	}
	return 0
}

// There are two of each block, since the next is fetched while one is used. Forward: keys and values; scores in float32
// twice and in bfloat16; queries and results.
func (a Attention) forwardPart() int { return a.part(2*(2+2), 4+4+2, 2*(2+2)) }

// Backward: also the float32 gradients of keys and values; one more matrix in bfloat16; and of the queries' shape four
// arrays.
func (a Attention) backwardPart() int { return a.part(2*(2+2+4+4), 4+4+2+2, 2*(2+2+2+2)) }

// pieces is the number of pieces, of at least 128, into which the keys are split, each with a kernel of its own, so
// that a part of the queries fits; 0 if none does.
func (a Attention) pieces(part func(Attention) int) int {
	for n := 1; n <= 64; n++ {
		piece := a
		piece.Keys = a.Keys / n
		if a.Keys%n == 0 && piece.Keys%128 == 0 && part(piece) > 0 {
			return n
		}
	}
	return 0
}

func (a Attention) forwardPieces() int  { return a.pieces(Attention.forwardPart) }
func (a Attention) backwardPieces() int { return a.pieces(Attention.backwardPart) }

// Fits says whether there are kernels for these shapes.
func (a Attention) Fits() bool {
	return a.Width%8 == 0 && a.forwardPieces() > 0 && a.backwardPieces() > 0
}

// Forward maps scaled queries [heads, width, queries] and keys and values [heads, width, keys], bfloat16, to the
// attention [heads, width, queries], bfloat16, and the logarithms of the softmaxes' divisors [heads, 1, queries],
// float32.
func (a Attention) Forward() *Kernel {
	n := a.forwardPart()
	query, key, row := Block{BF16, a.Width, n, true}, Block{BF16, a.Width, a.Keys, false}, Block{F32, 1, n, true}
	k := New("attention", a.Heads, a.Queries/n, []Block{query, key, key}, []Block{query, row})
	s := k.Dot(k.Load(1), 0, k.Load(0), 0) // [keys, queries]
	m := k.Max(s)
	p := k.Exp(k.Sub(s, m))
	l := k.Sum(p)
	k.Store(3, k.Narrow(k.Div(k.Dot(k.Load(2), 1, k.Narrow(p), 0), l)))
	k.Store(4, k.Add(m, k.Log(l)))
	return k
}

// Backward maps scaled queries, keys, values, the gradient of the attention, the attention and the logarithms to the
// gradients of the queries, bfloat16, and of keys and values, float32. The scores are computed again.
func (a Attention) Backward() *Kernel {
	n := a.backwardPart()
	query, key, row := Block{BF16, a.Width, n, true}, Block{BF16, a.Width, a.Keys, false}, Block{F32, 1, n, true}
	sum := Block{F32, a.Width, a.Keys, false}
	k := New("attention_gradient", a.Heads, a.Queries/n, []Block{query, key, key, query, query, row},
		[]Block{query, sum, sum})
	q, keys, values, dy := k.Load(0), k.Load(1), k.Load(2), k.Load(3)
	k.Zero(7)
	k.Zero(8)
	p := k.Exp(k.Sub(k.Dot(keys, 0, q, 0), k.Load(5))) // the softmax [keys, queries]
	k.Accumulate(8, k.Dot(dy, 1, k.Narrow(p), 1))
	delta := k.Sum(k.Mul(k.Widen(dy), k.Widen(k.Load(4))))
	ds := k.Narrow(k.Mul(p, k.Sub(k.Dot(values, 0, dy, 0), delta)))
	k.Accumulate(7, k.Dot(q, 1, ds, 1))
	k.Store(6, k.Narrow(k.Dot(keys, 1, ds, 0)))
	return k
}
