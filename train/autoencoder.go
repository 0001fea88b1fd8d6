package train

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/models/vae"
	"limner/xla"
)

// Autoencoder trains a VAE: absolute error of the reconstruction, plus KLWeight times the divergence of the posterior
// from a standard normal, per latent (Kingma and Welling 2013, arXiv:1312.6114).
type Autoencoder struct {
	VAE        vae.Config
	KLWeight   float64 `json:"kl_weight"`
	Batch      int     // images of a step, over all devices
	Resolution int     // pixels of an image, each way
}

// Objective is the loss of a batch of images float32 [batch, resolution, resolution, 3] in [-1, 1].
func (a Autoencoder) Objective() Objective {
	return Objective{
		Name:      "vae",
		Compute:   dtypes.Float32,
		Trainable: a.VAE.Tree().Under("vae"),
		Batch:     []xla.Value{batchValue("pixels", dtypes.Float32, a.Batch, a.Resolution, a.Resolution, a.VAE.InChannels)},
		Loss:      a.loss,
	}
}

func (a Autoencoder) loss(trainable, _ nn.Params, batch []*Node, draw Draws) *Node {
	p, images := trainable.In("vae"), batch[0]
	mean, logvar := a.VAE.Encode(p, images)
	latents := Add(mean, Mul(Exp(MulScalar(logvar, 0.5)), draw.normal(drawPosterior, mean.Shape().Dimensions...)))
	decoded := a.VAE.Decode(p, latents)
	reconstruction := ReduceAllMean(Abs(Sub(decoded, images)))
	// ½(μ² + σ² - 1 - log σ²)
	kl := MulScalar(ReduceAllMean(Sub(Add(Square(mean), Exp(logvar)), AddScalar(logvar, 1))), 0.5)
	return Add(reconstruction, MulScalar(kl, a.KLWeight))
}
