package sample

import "limner/models/clip"

// Encoding says how prompts become embeddings: flags of limner sample.
type Encoding struct {
	PromptStyle     clip.Style `json:"prompt_style" group:"prompt" enum:"plain,a1111,comfy" default:"plain" help:"What brackets in prompts mean: plain (nothing), a1111 or comfy; see above."`
	TruncatePrompts bool       `json:"truncate_prompts,omitempty" group:"prompt" help:"Cut prompts after 75 tokens, as diffusers does, instead of encoding them in chunks of 75."`
	ClipSkip        int        `json:"clip_skip,omitempty" group:"prompt" default:"0" help:"Last layers of the text encoder to leave out."`
}

// Denoising says in which steps, and how far towards the prompt, latents are denoised: flags of limner sample.
type Denoising struct {
	Scheduler         string  `json:"scheduler" group:"denoising" placeholder:"NAME" help:"Scheduler: ${schedulers}, or a class of diffusers; without it, the model's own."`
	NumInferenceSteps int     `json:"num_inference_steps" group:"denoising" default:"50" help:"Denoising steps."`
	GuidanceScale     float64 `json:"guidance_scale" group:"denoising" default:"7.5" help:"How far to follow the prompt; at 1 and below, the negative prompt goes unused."`
	GuidanceRescale   float64 `json:"guidance_rescale,omitempty" group:"denoising" default:"0" help:"How far to keep guidance from raising the contrast: 0 to 1."`
}
