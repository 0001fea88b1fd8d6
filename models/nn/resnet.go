package nn

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"
)

// ResnetBlock is diffusers' ResnetBlock2D: two 3×3 convolutions with the timestep embedding added between them,
// around a shortcut (Ho et al. 2020, arXiv:2006.11239, appendix B).
type ResnetBlock struct {
	OutChannels int     // from block_out_channels
	NormGroups  int     // norm_num_groups
	NormEps     float64 // norm_eps: 1e-5 in the UNet, 1e-6 in the VAE
}

// Forward maps x [batch, height, width, channels] to [batch, height, width, OutChannels], in x's dtype. temb is [batch,
// 4×block_out_channels[0]]; nil in the VAE, which has no timesteps. One of the two may have fewer rows: see SameRows.
func (b ResnetBlock) Forward(p Params, x, temb *Node) *Node {
	return p.Block(b.forward, x, temb)
}

func (b ResnetBlock) forward(p Params, in ...*Node) *Node {
	x, temb := in[0], in[1]
	x.AssertRank(4)
	h := GroupNormSiLU(p.In("norm1"), x, b.NormGroups, b.NormEps)
	h = Conv2D(p.In("conv1"), h, b.OutChannels, 3)
	if temb != nil {
		t := Linear(p.In("time_emb_proj"), SiLU(temb), b.OutChannels)
		h = AddRows(h, InsertAxes(t, 1, 1)) // [batch, 1, 1, OutChannels]
	}
	h = GroupNormSiLU(p.In("norm2"), h, b.NormGroups, b.NormEps)
	h = Conv2D(p.In("conv2"), h, b.OutChannels, 3)
	if x.Shape().Dim(-1) != b.OutChannels {
		x = Conv2D(p.In("conv_shortcut"), x, b.OutChannels, 1)
	}
	return p.Out(AddRows(x, h))
}
