package main

import (
	"fmt"
	"strings"

	"limner/models/checkpoint"
)

type convertCmd struct {
	In     string `arg:"" placeholder:"IN" help:"A file, or a folder in diffusers' layout."`
	Out    string `arg:"" placeholder:"OUT" help:"The file to write or, with --to diffusers, a folder, which must be new or empty."`
	To     string `required:"" enum:"diffusers,single-file,lora-diffusers,lora-peft,lora-kohya" placeholder:"FORMAT" help:"diffusers: a folder; single-file: the original naming, as A1111 reads it; lora-diffusers, lora-peft, lora-kohya: a LoRA in that naming."`
	DType  string `name:"dtype" enum:"f32,f16,bf16," default:"" placeholder:"TYPE" help:"f32, f16 or bf16; without it, every tensor keeps its own."`
	Config string `placeholder:"DIR" help:"Folder in diffusers' layout of a model of the same structure: its configs and tokenizers go with the weights of a single file."`
}

// Help shows one working example.
func (convertCmd) Help() string {
	return `Example:

  limner convert sd15 sd15.safetensors --to single-file --dtype f16

Whole models, ControlNets and VAEs go both ways between diffusers' folders and single files; UNets, text encoders and Flax weights become
folders; LoRAs change their naming. diffusers' naming of a LoRA holds no alpha, so the weights are multiplied by alpha/rank there.
The single file of an SD 2.x model has the 23 layers of the text encoder that diffusers keeps.`
}

func (c convertCmd) Run() error {
	conversion := checkpoint.Conversion{In: c.In, Out: c.Out, To: checkpoint.Target(c.To), DType: strings.ToUpper(c.DType), Config: c.Config}
	if err := conversion.Run(); err != nil {
		return configError{err}
	}
	_, err := fmt.Println(c.Out)
	return err
}
