package main

import (
	"slices"

	"github.com/alecthomas/kong"
)

// flagGroups are the groups that --help lists flags in, in this order: the usual ones first. A flag names its group by
// the key, in a tag: group:"model".
var flagGroups = []kong.Group{
	{Key: "plan", Title: "Plan:"},
	{Key: "model", Title: "Model:"},
	{Key: "prompt", Title: "Prompt:"},
	{Key: "images", Title: "Images:"},
	{Key: "data", Title: "Data:"},
	{Key: "filters", Title: "Filters:"},
	{Key: "output", Title: "Output:"},
	{Key: "denoising", Title: "Denoising:"},
	{Key: "image", Title: "Image to image and inpainting:"},
	{Key: "control", Title: "ControlNet:"},
	{Key: "steps", Title: "Steps and learning rate:"},
	{Key: "validation", Title: "Validation:"},
	{Key: "memory", Title: "Memory and precision:"},
	{Key: "optimizer", Title: "Optimizer:"},
	{Key: "loss", Title: "Loss:"},
	{Key: "logging", Title: "Logging:"},
	{Key: "sdxl", Title: "Sizes that SDXL is conditioned on:"},
	{Key: "devices", Title: "Devices:"},
}

// orderFlags sorts the flags of a command and of those below it by their groups. Within a group they stay in the order
// of the structs that declare them.
func orderFlags(node *kong.Node) {
	rank := func(f *kong.Flag) int {
		if f.Group == nil {
			return -1 // --help, and what the command has to itself
		}
		return slices.IndexFunc(flagGroups, func(g kong.Group) bool { return g.Key == f.Group.Key })
	}
	slices.SortStableFunc(node.Flags, func(a, b *kong.Flag) int { return rank(a) - rank(b) })
	for _, child := range node.Children {
		orderFlags(child)
	}
}
