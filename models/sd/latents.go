package sd

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/models/vae"
)

// Moments are those of images' latents, mean and then log variance: float32 [batch, height/8, width/8,
// 2·latent_channels]. The images [batch, height, width, 3] are in [-1, 1], in the compute dtype. p is at the root.
func Moments(c vae.Config, p nn.Params, images *Node) *Node {
	mean, logvar := c.Encode(p.In(VAE), images)
	return ConvertDType(Concatenate([]*Node{mean, logvar}, -1), dtypes.Float32)
}

// Latents are a draw from the posterior of Moments, scaled for the UNet: float32 [batch, height/8, width/8,
// latent_channels]. normal draws unit normals.
func Latents(c vae.Config, moments *Node, normal func(dims ...int) *Node) *Node {
	mean := Slice(moments, AxisRange(), AxisRange(), AxisRange(), AxisRange(0, c.LatentChannels))
	logvar := Slice(moments, AxisRange(), AxisRange(), AxisRange(), AxisRange(c.LatentChannels))
	return MulScalar(Posterior(mean, logvar, normal), c.ScalingFactor)
}

// Posterior is a draw from the VAE's posterior, μ + σ·ε, unscaled. mean, logvar and the draw are float32 [batch,
// height/8, width/8, latent_channels].
func Posterior(mean, logvar *Node, normal func(dims ...int) *Node) *Node {
	return Add(mean, Mul(Exp(MulScalar(logvar, 0.5)), normal(mean.Shape().Dimensions...)))
}
