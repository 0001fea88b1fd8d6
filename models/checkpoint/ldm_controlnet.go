package checkpoint

import "limner/models/safetensors"

// controlNames maps a ControlNet from the names of its original code to diffusers': the UNet's encoder,
// a zero convolution for each of its outputs, and the embedding of the conditioning image, whose
// convolutions stand at every second place. hints is their number.
func (b blocks) controlNames(hints int) names {
	n := b.encoderNames()
	n["middle_block_out.0"] = "controlnet_mid_block"
	outputs := len(b.resnets)
	for _, count := range b.resnets {
		outputs += count
	}
	for i := range outputs {
		n[at("zero_convs", i, 0)] = at("controlnet_down_blocks", i)
	}
	for i := range hints {
		name := at("controlnet_cond_embedding.blocks", i-1)
		switch i {
		case 0:
			name = "controlnet_cond_embedding.conv_in"
		case hints - 1:
			name = "controlnet_cond_embedding.conv_out"
		}
		n[at("input_hint_block", 2*i)] = name
	}
	return n
}

// fromLDMControlNet translates a ControlNet of the original code.
func fromLDMControlNet(part map[string]safetensors.Tensor) translated {
	m := modulesOf(part)
	hints := 0
	for m[at("input_hint_block", 2*hints)] {
		hints++
	}
	return translate(part, ldmBlocks(m).controlNames(hints))
}
