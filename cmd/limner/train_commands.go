package main

// trainCmd holds what can be trained. limner plan has the same commands.
type trainCmd struct {
	ControlNet       trainControlNetCmd       `cmd:"" name:"controlnet" set:"rate=5e-6" help:"Train a ControlNet for a frozen Stable Diffusion model."`
	TextToImage      trainTextToImageCmd      `cmd:"" name:"text-to-image" set:"rate=1e-5" help:"Train the UNet of a Stable Diffusion model, from where it is or from scratch."`
	LoRA             trainLoRACmd             `cmd:"" name:"lora" set:"rate=1e-4" help:"Train a LoRA for a frozen Stable Diffusion model."`
	DreamBooth       trainDreamBoothCmd       `cmd:"" name:"dreambooth" set:"rate=5e-6" help:"Teach a Stable Diffusion model what a few images show."`
	TextualInversion trainTextualInversionCmd `cmd:"" name:"textual-inversion" set:"rate=1e-4" help:"Learn embeddings of new tokens for a frozen Stable Diffusion model."`
	VAE              trainVAECmd              `cmd:"" name:"vae" set:"rate=5e-6" help:"Train the VAE of a Stable Diffusion model."`
}
