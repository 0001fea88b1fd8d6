package loss

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/shapes"

	"limner/models/nn"
	"limner/models/sd"
	"limner/xla/random"
)

// LoRA says which layers get matrices of low rank to train, while the layers themselves stay as they are (Hu et al.
// 2021, arXiv:2106.09685). Of a layer W they make W + alpha/rank·A·B.
type LoRA struct {
	Rank    int     `json:"rank" default:"4" help:"Of the matrices that are trained." resume:"same"`
	Alpha   float64 `json:"lora_alpha" name:"lora-alpha" placeholder:"X" help:"The matrices' product is multiplied by this over the rank; without it, by 1." resume:"same"`
	Dropout float64 `json:"lora_dropout" name:"lora-dropout" default:"0" help:"Share of a layer's inputs that its matrices do not see, in training." resume:"same"`
	// Targets are the last parts of the names of the UNet's layers, as in PEFT's target_modules, and TextTargets those
	// of the text encoders'; none leaves the text encoders alone.
	Targets     []string `json:"lora_targets" name:"lora-targets" default:"to_q,to_k,to_v,to_out.0" placeholder:"NAME,…" help:"Ends of the names of the UNet's layers to train." resume:"same"`
	TextTargets []string `json:"lora_text_targets" kong:"-" resume:"same"`
}

// AttentionTargets are the projections of attention, which diffusers' scripts train; ConvTargets are the convolutions
// of residual blocks and samplers, as kohya's LoCon has them; TextEncoderTargets are the text encoders' projections.
var (
	AttentionTargets   = []string{"to_q", "to_k", "to_v", "to_out.0"}
	ConvTargets        = []string{"conv1", "conv2", "conv_shortcut", "conv"}
	TextEncoderTargets = []string{"q_proj", "k_proj", "v_proj", "out_proj"}
)

// Validate reports every field out of range.
func (l LoRA) Validate() error {
	var errs []error
	const most = 1 << 14 // more than the widest layers have
	if l.Rank < 1 || l.Rank > most {
		errs = append(errs, fmt.Errorf("rank: got %d, want 1 to %d", l.Rank, most))
	}
	if !(l.Alpha > 0) {
		errs = append(errs, fmt.Errorf("lora_alpha: got %g, want above 0", l.Alpha))
	}
	if !(l.Dropout >= 0 && l.Dropout < 1) {
		errs = append(errs, fmt.Errorf("lora_dropout: got %g, want at least 0 and below 1", l.Dropout))
	}
	if len(l.Targets) == 0 {
		errs = append(errs, errors.New("lora_targets: name the layers to train"))
	}
	return errors.Join(errs...)
}

// LoRAPlace is where the matrices stand in a run's trees. What is below it are the keys of PEFT's files.
const LoRAPlace = "lora"

// changes says whether a layer gets matrices. path is its name, from the network's on.
func (l LoRA) changes(path string) bool {
	targets := l.TextTargets
	if strings.HasPrefix(path, sd.UNet+".") {
		targets = l.Targets
	} else if !strings.HasPrefix(path, sd.TextEncoder) {
		return false
	}
	return slices.ContainsFunc(targets, func(target string) bool { return strings.HasSuffix(path, "."+target) })
}

// Layers are the layers of networks that get matrices, by their weights.
func (l LoRA) Layers(networks nn.Tree) nn.Tree {
	var layers nn.Tree
	for _, spec := range networks {
		path, ok := strings.CutSuffix(spec.Key, ".weight")
		if ok && (spec.Kind == nn.Dense || spec.Kind == nn.Kernel) && l.changes(path) {
			spec.Key = path
			layers = append(layers, spec)
		}
	}
	return layers
}

// Matrices are the specifications of a layer's A and B: [in, rank] and [rank, out] or, of a convolution, [height,
// width, in, rank] and [1, 1, rank, out]. A starts normal, as in diffusers' scripts with a deviation of 1/rank, and B
// at zero.
func (l LoRA) Matrices(layer nn.Spec) (a, b nn.Spec) {
	n := len(layer.Shape)
	a = nn.Spec{Key: LoRAPlace + "." + layer.Key + ".lora_A.weight", Kind: layer.Kind, Init: nn.InitNormal}
	b = nn.Spec{Key: LoRAPlace + "." + layer.Key + ".lora_B.weight", Kind: layer.Kind, Init: nn.InitZeros}
	a.Shape = append(slices.Clone(layer.Shape[:n-1]), l.Rank)
	b.Shape = []int{l.Rank, layer.Shape[n-1]}
	if layer.Kind == nn.Kernel {
		b.Shape = []int{1, 1, l.Rank, layer.Shape[n-1]}
	}
	return a, b
}

// Tree lists the matrices for networks.
func (l LoRA) Tree(networks nn.Tree) nn.Tree {
	var tree nn.Tree
	for _, layer := range l.Layers(networks) {
		a, b := l.Matrices(layer)
		tree = append(tree, a, b)
	}
	return tree
}

// Init draws the starting values.
func (l LoRA) Init(networks nn.Tree, seed uint64) nn.Values {
	const drawn = 0.02 // the deviation of nn.InitNormal
	values := nn.InitValues(l.Tree(networks), seed)
	for _, data := range values {
		for i := range data {
			data[i] *= float32(1 / (drawn * float64(l.Rank)))
		}
	}
	return values
}

// adapt puts the matrices at their layers. draw is for dropout; nil goes without.
func (l LoRA) adapt(p nn.Params, networks nn.Tree, draw *Draws) nn.Params {
	layers := l.Layers(networks)
	var keys *Node
	if l.Dropout > 0 && draw != nil {
		keys = random.Bits(random.Key(draw.Seed, draw.Step, drawDropout), 2*len(layers))
	}
	lora := sd.LoRA{Layers: make([]sd.LoRALayer, len(layers))}
	for i, layer := range layers {
		a, b := l.Matrices(layer)
		lora.Layers[i] = sd.LoRALayer{Path: layer.Key, Down: a, Up: b, Scale: l.Alpha / float64(l.Rank)}
		if keys != nil {
			lora.Layers[i].Dropout = func(x *Node) *Node {
				return dropout(x, l.Dropout, Slice(keys, AxisRange(2*i, 2*i+2)), draw.Row)
			}
		}
	}
	return sd.WithLoRAs(p, lora)
}

// dropout sets a share of x's elements to zero and divides the others by what is left, so that the mean stays. Which
// they are follows from key, uint32 [2], by a hash of each element's index among those of all images of the step, of
// which x's first is row: a generator of its own at each layer would make compiling several times as long.
func dropout(x *Node, share float64, key, row *Node) *Node {
	g, dims := x.Graph(), x.Shape().Dimensions
	index := Iota(g, shapes.Make(dtypes.Uint32, x.Shape().Size()), 0)
	if row != nil {
		index = Add(index, MulScalar(row, float64(x.Shape().Size()/dims[0])))
	}
	hash := mix(Add(mix(BitwiseXor(index, Slice(key, AxisRange(0, 1)))), Slice(key, AxisRange(1, 2))))
	uniform := MulScalar(ConvertDType(BitwiseShiftRightLogicalScalar(hash, uint32(8)), dtypes.Float32), 1.0/(1<<24))
	mask := ConvertDType(GreaterOrEqual(uniform, Scalar(g, dtypes.Float32, share)), x.DType())
	return MulScalar(Mul(x, Reshape(mask, dims...)), 1/(1-share))
}

// mix is the last part of MurmurHash3: each bit of uint32 x has a say in every bit of the result.
func mix(x *Node) *Node {
	g := x.Graph()
	for _, round := range []struct{ shift, factor uint32 }{{16, 0x85ebca6b}, {13, 0xc2b2ae35}} {
		x = BitwiseXor(x, BitwiseShiftRightLogicalScalar(x, round.shift))
		x = Mul(x, Const(g, round.factor))
	}
	return BitwiseXor(x, BitwiseShiftRightLogicalScalar(x, uint32(16)))
}
