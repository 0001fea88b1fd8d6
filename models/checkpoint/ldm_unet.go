package checkpoint

import "limner/models/safetensors"

// blocks is how the encoder of a UNet or a ControlNet is built, level by level.
type blocks struct {
	resnets   []int  // residual blocks
	attention []bool // whether each is followed by a transformer
}

// ldmBlocks reads the levels from LDM's numbering, in which each residual block and each downsampler
// is one input block.
func ldmBlocks(m modules) blocks {
	b := blocks{resnets: []int{0}, attention: []bool{false}}
	for n := 1; m[at("input_blocks", n)]; n++ {
		if m[at("input_blocks", n, 0, "op")] {
			b.resnets, b.attention = append(b.resnets, 0), append(b.attention, false)
			continue
		}
		level := len(b.resnets) - 1
		b.resnets[level]++
		b.attention[level] = b.attention[level] || m[at("input_blocks", n, 1)]
	}
	return b
}

// diffusersBlocks reads the levels from diffusers' names.
func diffusersBlocks(m modules) blocks {
	var b blocks
	for level := range m.count("down_blocks") {
		b.resnets = append(b.resnets, m.count(at("down_blocks", level, "resnets")))
		b.attention = append(b.attention, m[at("down_blocks", level, "attentions.0")])
	}
	return b
}

// encoderNames maps the encoder that UNets and ControlNets share from LDM's names to diffusers'.
func (b blocks) encoderNames() names {
	n := names{
		"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
		"label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2",
		"input_blocks.0.0": "conv_in", "middle_block.1": "mid_block.attentions.0",
	}
	n.resnet("middle_block.0", "mid_block.resnets.0")
	n.resnet("middle_block.2", "mid_block.resnets.1")
	i := 1
	for level, count := range b.resnets {
		for j := range count {
			n.resnet(at("input_blocks", i, 0), at("down_blocks", level, "resnets", j))
			n[at("input_blocks", i, 1)] = at("down_blocks", level, "attentions", j)
			i++
		}
		if level < len(b.resnets)-1 {
			n[at("input_blocks", i, 0, "op")] = at("down_blocks", level, "downsamplers.0.conv")
			i++
		}
	}
	return n
}

// unetNames maps a UNet from LDM's names to diffusers'. Its decoder has one residual block more in each
// level, and an upsampler behind the last one instead of a block of its own.
func (b blocks) unetNames() names {
	n := b.encoderNames()
	n["out.0"], n["out.2"] = "conv_norm_out", "conv_out"
	i, last := 0, len(b.resnets)-1
	for up := range b.resnets {
		level := last - up
		for j := range b.resnets[level] + 1 {
			n.resnet(at("output_blocks", i, 0), at("up_blocks", up, "resnets", j))
			n[at("output_blocks", i, 1)] = at("up_blocks", up, "attentions", j)
			if j == b.resnets[level] && level > 0 {
				behind := 1
				if b.attention[level] {
					behind = 2
				}
				n[at("output_blocks", i, behind, "conv")] = at("up_blocks", up, "upsamplers.0.conv")
			}
			i++
		}
	}
	return n
}

// fromLDMUNet translates a UNet of the original Stable Diffusion code.
func fromLDMUNet(part map[string]safetensors.Tensor) translated {
	return translate(part, ldmBlocks(modulesOf(part)).unetNames())
}
