package train

import (
	"errors"
	"fmt"

	"limner/data"
	"limner/models/diffusers"
	"limner/train/loss"
)

// The parts of a Recipe. Each is what some of limner train's commands take: the tags are those of the flags, and resume
// says what becomes of a run that goes on with another value. Where the frozen weights and the rows come from does not
// matter to it, since what they are is compared.

// Basics are the settings of every training.
type Basics struct {
	diffusers.ModelOptions
	FromScratch  bool     `json:"from_scratch" group:"model" help:"Start the trained network from random weights of the same structure." resume:"free"`
	Data         []string `json:"train_data_dir" name:"train-data-dir" group:"data" aliases:"instance-data-dir" placeholder:"DIR" help:"Dataset: a folder, a file or a pattern of parquet, arrow or tar files, of images with metadata.jsonl or captions beside them, and more: see docs/data.md. May be given several times." resume:"free"`
	DatasetName  string   `json:"dataset_name" group:"data" placeholder:"NAME" help:"Dataset to train on, in place of --train_data_dir: org/name[@revision] on the Hub, or a folder here." resume:"free"`
	Resolution   int      `json:"resolution" group:"data" default:"512" help:"Side of the training images in pixels; others are resized and cropped." resume:"same"`
	data.Reading `group:"data"`
}

// Diffusion are the settings of trainings with the diffusion loss.
type Diffusion struct {
	MaskColumn      string    `json:"mask_column" group:"data" placeholder:"NAME" help:"Column of masks: the loss counts where they are bright." resume:"same"`
	ProportionEmpty float64   `json:"proportion_empty_prompts" name:"proportion-empty-prompts" group:"data" default:"0" help:"Share of captions replaced by the empty one, which guidance needs." resume:"same"`
	CacheLatents    bool      `json:"cache_latents" group:"memory" help:"Encode every image once before training; takes host memory for all latents." resume:"same"`
	CacheDir        string    `json:"-" group:"memory" placeholder:"DIR" help:"Folder that keeps the latents of --cache_latents for other runs, and other machines."`
	Loss            loss.Loss `json:"loss" group:"loss" embed:""`
}

// ControlNetSettings are those of the training of a ControlNet.
type ControlNetSettings struct {
	ControlNet        string `json:"controlnet_model_name_or_path" name:"controlnet-model-name-or-path" aliases:"controlnet" group:"model" placeholder:"MODEL" help:"ControlNet to go on from: a folder, a single file, or org/name on the Hub; without it, a copy of the UNet's encoder." resume:"free"`
	EmbeddingChannels []int  `json:"conditioning_embedding_out_channels" name:"conditioning-embedding-out-channels" group:"model" placeholder:"N,…" help:"Widths of a new ControlNet's conditioning embedding (default 16,32,96,256)." resume:"free"`
	Condition         string `json:"condition" group:"data" placeholder:"NAME" help:"Take the conditioning images from the images, in place of a column: a name, or one with parameters as in 'canny(low=rand(50, 150), high=rand(150, 250))', of ${conditions}." resume:"same"`
	KeypointsColumn   string `json:"keypoints_column" group:"data" placeholder:"NAME" help:"Column of OpenPose's JSON, for --condition pose; keypoints without it." resume:"same"`
	SDUnlocked        bool   `json:"sd_unlocked" name:"sd-unlocked" group:"model" help:"Train the UNet's decoder with the ControlNet: the result is a whole model, with the ControlNet in its folder controlnet." resume:"same"`
	loss.Control      `group:"model"`
}

// TextEncoderSettings are those of trainings that may take the text encoders along.
type TextEncoderSettings struct {
	TrainTextEncoder bool `json:"train_text_encoder" group:"model" help:"Train the text encoders too; of a LoRA, matrices beside their attention." resume:"same"`
}

// DreamBooth are the settings of teaching a model what a few images show.
type DreamBooth struct {
	InstancePrompt string `json:"instance_prompt" group:"data" placeholder:"TEXT" help:"Caption of every image, in place of a column." resume:"same"`
	Prior          *Prior `json:"prior" group:"data" embed:""` // nil: no prior preservation
}

// LoRASettings are those of the training of a LoRA.
type LoRASettings struct {
	LoRAWeights string     `json:"network_weights" name:"network-weights" group:"model" placeholder:"FILE" help:"LoRA to go on from, in any naming; --rank and what is trained must be the file's." resume:"free"`
	LoRA        *loss.LoRA `json:"lora" group:"model" embed:""` // trained instead of the networks; nil trains those
	LoRAFormat  string     `json:"-" name:"lora-format" group:"output" enum:"diffusers,kohya,both" default:"both" help:"Naming of the result: diffusers, kohya or both, a file for each."`
}

// Inversion are the settings of textual inversion.
type Inversion struct {
	Tokens   []loss.Token `json:"placeholder_token" kong:"-" resume:"same"`
	Property string       `json:"learnable_property" name:"learnable-property" group:"data" enum:"object,style,caption" default:"object" help:"What the tokens are, which chooses captions around them: object or style; or caption, for the captions of the dataset, with {} where the tokens stand, or else at the end." resume:"same"`
}

// Autoencoder are the settings of the training of a VAE.
type Autoencoder struct {
	DecoderOnly bool    `json:"train_decoder_only" name:"train-decoder-only" group:"model" help:"Train the decoder and leave the latents, and so the UNet, as they are." resume:"same"`
	KLWeight    float64 `json:"kl_weight" name:"kl-weight" group:"loss" default:"1e-6" help:"Weight of the posterior's divergence from a standard normal." resume:"same"`
}

// Prior keeps a model's idea of a class while it learns one of its members: images that the model drew of the class
// stand beside those of the member in each batch.
type Prior struct {
	Data   []string `json:"class_data_dir" kong:"-" resume:"free"`
	Prompt string   `json:"class_prompt" name:"class-prompt" placeholder:"TEXT" help:"Caption of the images of the class." resume:"same"`
	Weight float64  `json:"prior_loss_weight" name:"prior-loss-weight" default:"1" help:"Weight of the loss on images of the class." resume:"same"`
}

// Validate reports every field out of range.
func (p Prior) Validate() error {
	var errs []error
	if len(p.Data) == 0 {
		errs = append(errs, errors.New("class_data_dir: give a folder for the images of the class"))
	}
	if p.Prompt == "" {
		errs = append(errs, errors.New("class_prompt: say what the class is"))
	}
	if !(p.Weight > 0) {
		errs = append(errs, fmt.Errorf("prior_loss_weight: got %g, want above 0", p.Weight))
	}
	return errors.Join(errs...)
}

// What new tokens may be, which chooses the captions that they are learned from.
const (
	PropertyObject  = "object"
	PropertyStyle   = "style"
	PropertyCaption = "caption" // the dataset's own captions
)

// Properties are the values of Recipe.Property.
var Properties = []string{PropertyObject, PropertyStyle, PropertyCaption}
