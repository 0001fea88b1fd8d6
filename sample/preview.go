package sample

import "limner/data/imaging"

// latentColours maps a latent's channels to red, green and blue in [-1, 1], by a linear fit to what the VAE decodes:
// the factors that ComfyUI's previews use. The last row is added.
var latentColours = map[bool][5][3]float32{ // by whether the model is SDXL
	false: {{0.3512, 0.2297, 0.3227}, {0.3250, 0.4974, 0.2350}, {-0.2829, 0.1762, 0.2721},
		{-0.2120, -0.2616, -0.7177}, {}},
	true: {
		{0.3651, 0.4232, 0.4341}, {-0.2533, -0.0042, 0.1068}, {0.1076, 0.1111, -0.0362}, {-0.3165, -0.2492, -0.2188},
		{0.1084, -0.0175, -0.0011},
	},
}

// Preview shows roughly what latents [height/8, width/8, channels] look like, without the VAE: a pixel for each latent,
// enlarged to the size of the image.
func (m Model) Preview(latents []float32, height, width int) *imaging.RGB {
	factors, scale, channels := latentColours[m.Pipeline.XL()], m.Pipeline.VAE.Scale(), m.Pipeline.VAE.LatentChannels
	out := imaging.NewRGB(width, height)
	for y := range height {
		for x := range width {
			at := latents[((y/scale)*(width/scale)+x/scale)*channels:]
			for c := range 3 {
				v := factors[4][c]
				for k := range min(channels, 4) {
					v += factors[k][c] * at[k]
				}
				if v = (v + 1) * 127.5; v > 0 {
					out.Pix[(y*width+x)*3+c] = uint8(min(v+0.5, 255))
				}
			}
		}
	}
	return out
}
