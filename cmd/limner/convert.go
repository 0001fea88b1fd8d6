package main

import (
	"errors"
	"fmt"
	"strings"

	"limner/internal/refusal"
	"limner/models/checkpoint"
	"limner/models/diffusers"
)

type convertCmd struct {
	In        string    `arg:"" placeholder:"IN" help:"A file, or a folder in diffusers' layout or of a LoRA."`
	Out       string    `arg:"" placeholder:"OUT" help:"The file to write or, with --to diffusers, a folder, which must be new or empty."`
	To        string    `required:"" enum:"diffusers,single-file,lora-diffusers,lora-peft,lora-kohya" placeholder:"FORMAT" help:"diffusers: a folder; single-file: the original naming, as A1111 reads it; lora-diffusers, lora-peft, lora-kohya: a LoRA in that naming."`
	DType     string    `name:"dtype" enum:"f32,f16,bf16," default:"" placeholder:"TYPE" help:"f32, f16 or bf16; without it, every tensor keeps its own."`
	LoRA      []string  `name:"lora" sep:"none" placeholder:"FILE" help:"LoRA to add to the weights of a whole model, with --to diffusers; may be given several times."`
	LoRAScale []float64 `name:"lora-scale" placeholder:"X" help:"How far to add each LoRA, in their order; 1 without it."`
	Config    string    `placeholder:"DIR" help:"Folder in diffusers' layout of a model of the same structure: its configs and tokenizers go with the weights of a single file."`
}

// Help shows one working example.
func (convertCmd) Help() string {
	return `Example:

  limner convert sd15 sd15.safetensors --to single-file --dtype f16

Without --config, the single file of a whole model becomes a folder with the configs that its family was published with. --lora adds LoRAs
to the weights for good. Whole models, ControlNets and VAEs go both ways between diffusers' folders and single files; UNets, text encoders and Flax weights become
folders; LoRAs change their naming. diffusers' naming of a LoRA holds no alpha, so the weights are multiplied by alpha/rank there.
The single file of an SD 2.x model has the 23 layers of the text encoder that diffusers keeps.`
}

func (c convertCmd) Run() error {
	if err := c.check(); err != nil {
		return usageError{err}
	}
	if c.needsModel() {
		return c.wholeModel()
	}
	conversion := checkpoint.Conversion{
		In: c.In, Out: c.Out, To: checkpoint.Target(c.To), DType: strings.ToUpper(c.DType), Config: c.Config, Log: said,
	}
	if err := conversion.Run(); err != nil {
		return refusal.Error{Err: err}
	}
	_, err := fmt.Println(c.Out)
	return err
}

// check reports every flag that does not fit another.
func (c convertCmd) check() error {
	var errs []error
	if len(c.LoRA) > 0 && c.To != string(checkpoint.ToDiffusers) {
		errs = append(errs, fmt.Errorf("--lora goes with --to %s", checkpoint.ToDiffusers))
	}
	if n := len(c.LoRAScale); n > 0 && n != len(c.LoRA) {
		errs = append(errs, fmt.Errorf("%d times --lora_scale for %d times --lora: give one for each", n, len(c.LoRA)))
	}
	return errors.Join(errs...)
}

// needsModel says whether more than the tensors matters: configs that nobody gave, a noise schedule other than theirs,
// or LoRAs.
func (c convertCmd) needsModel() bool {
	if c.To != string(checkpoint.ToDiffusers) {
		return false
	}
	whole, marks := diffusers.IsWholeFile(c.In)
	return len(c.LoRA) > 0 || whole && (c.Config == "" || marks != checkpoint.Marks{})
}

// wholeModel writes a folder in diffusers' layout.
func (c convertCmd) wholeModel() error {
	p, err := diffusers.OpenWith(c.In, diffusers.Options{Config: c.Config, Log: said})
	if err != nil {
		return refusal.Error{Err: err}
	}
	scales := c.LoRAScale
	for len(scales) < len(c.LoRA) {
		scales = append(scales, 1)
	}
	err = checkpoint.WriteFolder(c.Out, func(dir string) error {
		if len(c.LoRA) == 0 {
			return p.Copy(dir, strings.ToUpper(c.DType))
		}
		return p.SaveFused(dir, c.LoRA, scales, strings.ToUpper(c.DType))
	})
	if err != nil {
		return refusal.Error{Err: err}
	}
	_, err = fmt.Println(c.Out)
	return err
}
