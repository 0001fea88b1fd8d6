package xla

import "limner/xla/cpu"

// Forward are the devices' own layers for where no gradient is asked for, as nn.Kernels.
func (b *Backend) Forward() cpu.Layers {
	layers := b.forward
	if b.attention != nil {
		layers.Attention = b.attention
	}
	return layers
}
