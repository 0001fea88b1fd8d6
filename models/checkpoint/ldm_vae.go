package checkpoint

import (
	"strings"

	"limner/models/safetensors"
)

// vaeNames maps a VAE of that many levels, with that many residual blocks in each level of its encoder
// and one more in its decoder, from LDM's names to diffusers'. LDM counts the decoder's levels from the image.
func vaeNames(levels, resnets int) names {
	n := names{}
	block := func(ldm, diffusers string) {
		n[ldm] = diffusers
		n[ldm+".nin_shortcut"] = diffusers + ".conv_shortcut"
	}
	for _, side := range []string{"encoder", "decoder"} {
		n[at(side, "norm_out")] = at(side, "conv_norm_out")
		block(at(side, "mid.block_1"), at(side, "mid_block.resnets.0"))
		block(at(side, "mid.block_2"), at(side, "mid_block.resnets.1"))
		for from, to := range map[string]string{
			"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0",
		} {
			n[at(side, "mid.attn_1", from)] = at(side, "mid_block.attentions.0", to)
		}
	}
	for level := range levels {
		up := levels - 1 - level
		for j := range resnets {
			block(at("encoder.down", level, "block", j), at("encoder.down_blocks", level, "resnets", j))
		}
		for j := range resnets + 1 {
			block(at("decoder.up", level, "block", j), at("decoder.up_blocks", up, "resnets", j))
		}
		n[at("encoder.down", level, "downsample.conv")] = at("encoder.down_blocks", level, "downsamplers.0.conv")
		n[at("decoder.up", level, "upsample.conv")] = at("decoder.up_blocks", up, "upsamplers.0.conv")
	}
	return n
}

// fromLDMVAE translates the first stage of the original code. The projections of its attention are 1×1
// convolutions: the same numbers as diffusers' linear layers.
func fromLDMVAE(part map[string]safetensors.Tensor) translated {
	kept := make(map[string]safetensors.Tensor, len(part))
	for key, t := range part {
		if !strings.HasPrefix(key, "loss.") && key != "model_ema.decay" && key != "model_ema.num_updates" {
			kept[key] = t
		}
	}
	m := modulesOf(kept)
	t := translate(kept, vaeNames(m.count("encoder.down"), m.count("encoder.down.0.block")))
	for key, tensor := range t.tensors {
		if vaeAttention.MatchString(key) {
			t.tensors[key] = withoutPixels(tensor)
		}
	}
	return t
}

// withoutPixels drops trailing dimensions of 1 behind the second.
func withoutPixels(t safetensors.Tensor) safetensors.Tensor {
	for len(t.Shape) > 2 && t.Shape[len(t.Shape)-1] == 1 {
		t.Shape = t.Shape[:len(t.Shape)-1]
	}
	return t
}
