package train

import (
	"limner/data/imaging"
	"limner/models/diffusers"
)

// interpolation is the filter that images are resized by: the one given, else the one that a run which goes on has
// recorded, else that of diffusers' script.
func (r Recipe) interpolation(o Options, script imaging.Filter) (imaging.Filter, error) {
	if r.Interpolation != "" {
		return r.Interpolation, nil
	}
	var recorded imaging.Filter
	if ok, err := o.begunWith("image_interpolation_mode", &recorded); err != nil {
		return "", err
	} else if ok && recorded.Check() == nil {
		return recorded, nil
	}
	return script, nil
}

// scriptFilter is the filter by which diffusers' script for a training with the diffusion loss resizes images: that of
// its --image_interpolation_mode or, of scripts without one, the only one. ControlNets and DreamBooth have such scripts
// for Stable Diffusion 1 and 2, and others for SDXL.
func (r Recipe) scriptFilter(model *diffusers.Pipeline) imaging.Filter {
	switch {
	case len(r.Tokens) > 0:
		return imaging.Bicubic
	case (r.NeedConditioning || r.InstancePrompt != "") && !model.XL():
		return imaging.Bilinear
	}
	return imaging.Lanczos
}
