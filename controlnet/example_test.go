package controlnet_test

import (
	"fmt"

	"limner/controlnet"
	"limner/models/unet"
)

// The ControlNet of Stable Diffusion 1.5 by its size alone: no weights are needed.
func ExampleFromUNet() {
	u := unet.Default()
	u.CrossAttentionDim = 768
	c := controlnet.FromUNet(u, nil)
	fmt.Println(u.Tree().Size(), "parameters in the UNet,", c.Tree().Size(), "in the ControlNet")
	// Output: 859520964 parameters in the UNet, 361279120 in the ControlNet
}
