package diffusers

// ModelOptions choose a model and say what its files do not.
type ModelOptions struct {
	Model          string `json:"pretrained_model_name_or_path" group:"model" name:"pretrained-model-name-or-path" aliases:"model" required:"" placeholder:"MODEL" help:"Stable Diffusion 1.x, 2.x or XL model: a folder in diffusers' layout, a single file, or org/name[@revision] on the Hub. --model is the same." resume:"free"`
	Revision       string `json:"revision,omitempty" group:"model" placeholder:"NAME" help:"Branch, tag or commit of a model on the Hub; --model org/name@revision is the same." resume:"free"`
	Variant        string `json:"variant,omitempty" group:"model" placeholder:"NAME" help:"Of the weights, such as fp16, where a folder or the Hub has several." resume:"free"`
	OriginalConfig string `json:"original_config,omitempty" group:"model" placeholder:"DIR" help:"Folder in diffusers' layout whose configs and tokenizers go with a single file; without it, they are its family's." resume:"free"`
	PredictionType string `json:"prediction_type,omitempty" group:"model" enum:"epsilon,v_prediction,sample," default:"" placeholder:"TYPE" help:"epsilon, v_prediction or sample, in place of what the model's schedule says; a single file of SD 2.x is taken for v_prediction." resume:"free"`
}

// Opening are the options that a model's files are opened with.
func (o ModelOptions) Opening() Options {
	return Options{Variant: o.Variant, Config: o.OriginalConfig, PredictionType: o.PredictionType}
}
