package batch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"limner/internal/refusal"
	"limner/models/checkpoint"
	"limner/models/diffusers"
	"limner/sample"
)

// loadedModel is a model whose weights are still in their files.
type loadedModel struct {
	sample.Model
	weights *diffusers.Weights
	files   []UsedFile // that it was loaded from
}

// load opens the model's files.
func (l *List) load(ctx context.Context) (loadedModel, error) {
	var m loadedModel
	c := l.options
	pipeline, err := l.host.OpenModel(ctx, c.ModelOptions)
	if err != nil {
		return m, err
	}
	m.Model = sample.Model{
		Pipeline: pipeline, Compute: c.Compute(), Log: l.host.Log, Logged: map[string]bool{},
		VAESlicing: c.VAESlicing, VAETiling: c.VAETiling,
	}
	for _, j := range l.jobs {
		if _, err := m.Schedule(j.Request(), j.Height, j.Width); err != nil {
			return m, UsageError{err}
		}
		if err := pipeline.CheckClipSkip(j.ClipSkip); err != nil {
			return m, UsageError{fmt.Errorf("--%w", err)}
		}
	}
	if err := l.loadAdditions(ctx, &m); err != nil {
		return m, err
	}
	for _, token := range pipeline.UnusedTokens(prompts(l.jobs)) {
		fmt.Fprintf(m.Log, "%s stands in no prompt, so its textual inversion changes nothing: "+
			"write it where it is meant\n", token)
	}
	if m.weights, err = pipeline.Weights(pipeline.Components()...); err != nil {
		return m, refusal.Error{Err: err}
	}
	m.Weights = m.weights
	sum, err := m.weights.Fingerprint(pipeline.Components()...)
	if err != nil {
		return m, errors.Join(refusal.Error{Err: err}, m.weights.Close())
	}
	m.files = append(modelFiles(c.ModelOptions, sum), m.files...)
	for _, name := range c.ControlNets {
		if err := l.loadControlNet(ctx, name, &m); err != nil {
			return m, errors.Join(err, m.weights.Close())
		}
	}
	return m, nil
}

// prompts lists the distinct texts of jobs, the negative ones too.
func prompts(work []*job) []string {
	texts := map[string]bool{}
	for _, j := range work {
		for _, prompt := range j.Prompt {
			texts[prompt] = true
		}
		if j.NegativePrompt != nil {
			texts[*j.NegativePrompt] = true
		}
	}
	return slices.Sorted(maps.Keys(texts))
}

// loadAdditions reads LoRAs and textual inversions.
func (l *List) loadAdditions(ctx context.Context, m *loadedModel) error {
	for _, name := range l.options.LoRA {
		path, err := l.host.Locate(ctx, name, "")
		if err != nil {
			return err
		}
		lora, err := m.Pipeline.OpenLoRA(path)
		if err != nil {
			return refusal.Error{Err: err}
		}
		if err := m.Pipeline.AddLoRATokens(lora); err != nil {
			return refusal.Error{Err: err}
		}
		m.LoRAs = append(m.LoRAs, lora)
		sum, err := fileSum(lora.Path)
		if err != nil {
			return err
		}
		m.files = append(m.files, named(loraFlag, name, sum))
	}
	for _, name := range l.options.TextualInversion {
		token, path, ok := strings.Cut(name, "=")
		if !ok {
			token, path = "", name
		}
		path, err := checkpoint.EmbeddingFile(path)
		if err != nil {
			return refusal.Error{Err: err}
		}
		if err := m.Pipeline.AddEmbedding(path, token); err != nil {
			return refusal.Error{Err: err}
		}
		sum, err := fileSum(path)
		if err != nil {
			return err
		}
		m.files = append(m.files, named(inversionFlag, name, sum))
	}
	return nil
}

func (l *List) loadControlNet(ctx context.Context, name string, m *loadedModel) error {
	path, err := l.host.Locate(ctx, name, l.options.Variant)
	if err != nil {
		return err
	}
	config, err := diffusers.ReadControlNet(path, l.host.Log)
	if err != nil {
		return refusal.Error{Err: err}
	}
	if n := config.ConditioningChannels; n != 3 {
		return refusal.Errorf("load %s: conditioning_channels is %d, images have 3", path, n)
	}
	component := sample.ControlNetName(len(m.ControlNets))
	if err := m.weights.Open(component, path, config.Tree()); err != nil {
		return refusal.Error{Err: err}
	}
	sum, err := m.weights.Fingerprint(component)
	if err != nil {
		return refusal.Error{Err: err}
	}
	m.files = append(m.files, named(controlNetFlag, name, sum))
	m.ControlNets = append(m.ControlNets, config)
	return nil
}
