package main

import (
	"context"
	"path/filepath"

	"limner/data/circles"
	"limner/models/clip"
	"limner/models/diffusers"
	"limner/models/nn"
	"limner/models/sd"
	"limner/models/unet"
)

// prepare writes a model whose networks compile in a second and a dataset, and returns their folders.
func prepare(ctx context.Context, dir string) (model, dataset string, err error) {
	model, dataset = filepath.Join(dir, "model"), filepath.Join(dir, "data")
	tokenizer, err := clip.TrainTokenizer([]string{"red circle with blue background"}, 20, 12)
	if err != nil {
		return "", "", err
	}
	p := &diffusers.Pipeline{Networks: sd.Default(), Tokenizer: tokenizer}
	p.UNet.BlockOutChannels, p.UNet.LayersPerBlock, p.UNet.NormNumGroups = []int{8}, 1, 4
	p.UNet.DownBlockTypes, p.UNet.UpBlockTypes = []string{"DownBlock2D"}, []string{"UpBlock2D"}
	p.UNet.CrossAttentionDim, p.UNet.AttentionHeadDim = 8, unet.PerLevel{1}
	p.VAE.BlockOutChannels, p.VAE.LayersPerBlock, p.VAE.NormNumGroups = []int{4}, 1, 2
	p.VAE.DownBlockTypes, p.VAE.UpBlockTypes = []string{"DownEncoderBlock2D"}, []string{"UpDecoderBlock2D"}
	p.Text.VocabSize, p.Text.HiddenSize, p.Text.IntermediateSize = tokenizer.VocabSize(), 8, 16
	p.Text.NumHiddenLayers, p.Text.NumAttentionHeads, p.Text.MaxPositionEmbeddings = 1, 2, tokenizer.MaxLength()
	values := nn.Values{}
	for _, component := range []string{diffusers.UNet, diffusers.VAE, diffusers.TextEncoder} {
		values = nn.Merge(values, nn.InitValues(p.Tree(component), 1).Under(component))
	}
	if err := p.Save(model, values, "F32"); err != nil {
		return "", "", err
	}
	c := circles.Default()
	c.Count, c.Size = 20, 16
	return model, dataset, circles.Write(ctx, c, dataset, nil)
}
