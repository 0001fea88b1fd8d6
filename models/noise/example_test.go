package noise_test

import (
	"fmt"

	"limner/models/noise"
)

// Stable Diffusion 1.x's schedule leaves a little of the image even at the last timestep.
func ExampleConfig_AlphasCumprod() {
	alphas := noise.StableDiffusion().AlphasCumprod()
	fmt.Printf("%.5f %.5f %.5f\n", alphas[0], alphas[500], alphas[999])
	// Output: 0.99915 0.27633 0.00466
}
