package loss

import (
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/models/nn"
	"limner/models/sd"
	"limner/models/vae"
	"limner/xla"
	"limner/xla/program"
)

// Autoencoder trains a VAE: absolute error of the reconstruction, plus KLWeight times the divergence of the posterior
// from a standard normal, per latent (Kingma and Welling 2013, arXiv:1312.6114).
type Autoencoder struct {
	VAE        vae.Config
	KLWeight   float64
	Decoder    bool // train the decoder only, which leaves the latents as they are
	Batch      int  // images of a step, over all devices
	Resolution int  // pixels of an image, each way
}

// Objective is the loss of a batch of images float32 [batch, resolution, resolution, 3] in [-1, 1].
func (a Autoencoder) Objective() Objective {
	o := Objective{
		Name:      "vae",
		Compute:   dtypes.Float32,
		Trainable: a.VAE.Tree().Under("vae"),
		Batch: []xla.Value{
			BatchValue(InputPixels, dtypes.Float32, a.Batch, a.Resolution, a.Resolution, a.VAE.InChannels),
		},
		Loss: a.loss,
	}
	if a.Decoder {
		o.Name = "vae_decoder"
		o.Trainable, o.Frozen = a.VAE.DecoderTree().Under("vae"), a.VAE.EncoderTree().Under("vae")
	}
	return o
}

func (a Autoencoder) loss(trainable, frozen nn.Params, batch program.Nodes, draw Draws) *Node {
	encoder, images := trainable, batch.Get(InputPixels)
	if a.Decoder {
		encoder = frozen
	}
	mean, logvar := a.VAE.Encode(encoder.In("vae"), images)
	latents := sd.Posterior(mean, logvar, draw.posterior)
	decoded := a.VAE.Decode(trainable.In("vae"), latents)
	reconstruction := ReduceAllMean(Abs(Sub(decoded, images)))
	if a.Decoder {
		return reconstruction
	}
	// ½(μ² + σ² - 1 - log σ²)
	kl := MulScalar(ReduceAllMean(Sub(Add(Square(mean), Exp(logvar)), AddScalar(logvar, 1))), 0.5)
	return Add(reconstruction, MulScalar(kl, a.KLWeight))
}
