package sd

import (
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/controlnet"
	"limner/models/nn"
	"limner/models/unet"
)

// Control is a ControlNet at work.
type Control struct {
	controlnet.Config
	Name      string                                // the place of its parameters
	Embedding *Node                                 // of its conditioning image, as CondEmbedding makes it
	Adjust    func(*unet.Residuals) *unet.Residuals // is applied to its residuals; nil leaves them
}

// Residuals are the sum of ControlNets' for the UNet; nil without any. sample, timesteps and context are as for
// controlnet.Config.ForwardEmbedded. p is at the root.
func Residuals(p nn.Params, controls []Control, sample, timesteps *Node, context unet.Context) *unet.Residuals {
	var sum *unet.Residuals
	for _, c := range controls {
		r := c.ForwardEmbedded(p.In(c.Name), sample, timesteps, context, c.Embedding)
		if c.Adjust != nil {
			r = c.Adjust(r)
		}
		if sum != nil {
			r = sum.Add(r)
		}
		sum = r
	}
	return sum
}
