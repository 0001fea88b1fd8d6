package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What foreignFlags say of several flags.
const (
	theCheckpoint = "leave it out: safetensors and Flax weights are told apart by their files"
	theDataset    = "bring the dataset here (hf download ORG/NAME --repo-type dataset --local-dir DIR) " +
		"and give --train_data_dir DIR"
	thePublishing = "the result is a folder in diffusers' layout: upload it with hf upload ORG/NAME DIR when it is done"
	theProjects   = "there is no tracker to log in to: each run keeps its metrics in its output folder"
	theCompiler   = "leave it out: XLA compiles the whole step and chooses its own kernels"
)

// foreignFlags are flags of diffusers' training scripts that make no sense here, with what to do instead. No command
// has one.
var foreignFlags = map[string]string{
	"from-pt": theCheckpoint, "from-flax": theCheckpoint,
	"non-ema-revision":                  "give the revision to train from as --model org/name@revision",
	"controlnet-revision":               "give --controlnet_model_name_or_path org/name@revision",
	"controlnet-from-pt":                theCheckpoint,
	"tokenizer-name":                    "the tokenizer is the model's: give a model folder that holds the other one",
	"tokenizer-max-length":              "captions are cut after the tokenizer's model_max_length",
	"pretrained-vae-model-name-or-path": "give a model folder whose vae/ is the one to train with",
	"dataset-name":                      theDataset,
	"load-from-disk":                    "give the folder that save_to_disk wrote as --train_data_dir",
	"streaming":                         "leave it out: rows are read as they are needed",
	"max-train-samples":                 "give fewer parquet files as --train_data_dir, or fewer --max_train_steps",
	"preprocessing-num-workers":         "leave it out: images are prepared while training goes on",
	"instance-data-root":                "give --instance_data_dir", "push-to-hub": thePublishing,
	"hub-token":    thePublishing,
	"hub-model-id": thePublishing,
	"wandb-entity": theProjects,
	"allow-tf32":   theCompiler,
	"enable-xformers-memory-efficient-attention": theCompiler,
	"enable-npu-flash-attention":                 theCompiler,
	"set-grads-to-none":                          "leave it out: gradients live only within the step",
	"local-rank":                                 "leave it out: one process drives all devices, see --num_devices",
	"ccache": "leave it out: compiled programs are kept, " +
		"see --compilation_cache_dir",
	"profile-memory":                  "leave it out: limner doctor names the devices' memory",
	"prior-generation-precision":      "leave it out: class images are drawn in the precision of --mixed_precision",
	"pre-compute-text-embeddings":     "leave it out: text is encoded on the devices, which costs next to nothing",
	"text-encoder-use-attention-mask": "leave it out: the models that need it are not supported",
	"skip-save-text-encoder": "leave it out: the frozen text encoder is copied beside the UNet, " +
		"so that the folder is a whole model",
	"class-labels-conditioning": "leave it out: the models that need it are not supported",
	"save-as-full-pipeline":     "leave it out: limner sample --textual_inversion adds the token to any model",
	"no-safe-serialization":     "leave it out: weights are written as safetensors, which hold no code",
	"offset-noise":              "give --noise_offset 0.1",
	"optimizer-type":            "give --optimizer",
	"use-dora":                  "leave it out: a LoRA of plain matrices is trained",
	"logging-steps":             "leave it out: every step is in metrics.jsonl",
	"save-steps":                "give --checkpointing_steps",
	"lora-rank":                 "give --rank",
	"kohya-format":              "give --lora_format kohya",
	"output-kohya-format":       "give --lora_format both",
}

// explainForeign says of flags on the command line that are diffusers' and of no use here what to do instead.
func explainForeign(args []string) error {
	var errs []error
	for _, arg := range args {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if advice, ok := foreignFlags[name]; ok && strings.HasPrefix(arg, "--") {
			errs = append(errs, fmt.Errorf("--%s: %s", underscored(name), advice))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
