package main

import (
	"context"
	"fmt"
	"strings"

	"limner/xla"
)

// benchCase is one thing that is measured on both sides.
type benchCase struct {
	name   string
	title  string // for people
	rounds int
	steps  int // of one side in a round
	goals  goals
	peers  []peer
	family string                                                // of the model in bench/out for all sides; "": none
	apart  bool                                                  // run the sides in turn: both do not fit into memory
	start  func(context.Context, *xla.Backend) (workload, error) // our side; peers have the name in their scripts
	pairs  *pairSet                                              // dataset in bench/out for all sides; nil: none
	read   func(context.Context) (workload, error)               // our side where it needs no devices
}

// goals are the largest acceptable ratios.
type goals struct {
	wall, cpu, compile, peak float64
	start                    float64 // from the start of the process to the end of its first step; 0: not reported
	alias                    bool    // all of the state must be written in place
}

// workload is a compiled program with all inputs of a step.
type workload struct {
	setup
	step func() error
}

func cases() []benchCase {
	pipeline := goals{wall: 0.8, cpu: 0.8, compile: 2, peak: 1, start: 0.8}
	full := goals{wall: 0.8, cpu: 0.8, compile: 2, peak: 1}
	both := []peer{flax, torch}
	reading := goals{wall: 1, cpu: 0.8, peak: 1. / 3}
	return []benchCase{
		{
			name:   "train_step_small_unet",
			title:  "A training step of a small UNet: 4.4 M parameters, batch 4, 32×32×4 latents, AdamW",
			rounds: 6, steps: 2, peers: []peer{flax},
			start: startTrainStep,
			goals: goals{wall: 1, cpu: 1, compile: 2, peak: 1, alias: true},
		},
		{
			name: "controlnet_step",
			title: "A training step of a ControlNet of middling size: 128 to 512 channels, batch 4, pixels, " +
				"captions and conditions in",
			rounds: 3, steps: 2, peers: []peer{flax},
			start: startControlStep(false),
			goals: goals{wall: 0.9, cpu: 0.9, compile: 2, peak: 1, start: 0.5},
		},
		{
			name:   "controlnet_step_cached",
			title:  "The same with cached latents; Flax's script keeps none",
			rounds: 3, steps: 2, peers: []peer{flax},
			start: startControlStep(true),
			goals: goals{wall: 0.6, cpu: 0.6, compile: 2, peak: 1, start: 0.5},
		},
		{
			name:   "sample_tiny",
			title:  "An image of 64×64 of the tests' tiny model in 20 steps",
			rounds: 5, steps: 2, peers: []peer{torch},
			start: startSample(tinySampler, 64, 20), goals: pipeline,
		},
		{
			name:   "sample_middling",
			title:  "An image of 256×256 of middling size in 20 DDIM steps, guidance and ControlNet",
			rounds: 3, steps: 1, peers: both,
			start: startSample(middlingSampler, 256, 20), goals: pipeline,
		},
		// stable-diffusion.cpp keeps the weights in float16 as in their file, which takes half of our memory.
		{
			name:   "sample_sd15",
			title:  "An image of 256×256 of Stable Diffusion 1.5's size in 4 Euler steps, guidance",
			rounds: 3, steps: 1, peers: []peer{sdcpp, torch}, family: "sd15", apart: true,
			start: startSample(fullSampler, 256, 4),
			goals: goals{wall: 0.8, cpu: 0.8, compile: 2, peak: 3, start: 0.8},
		},
		{
			name:   "sd15_unet_forward",
			title:  "One forward pass of the UNet of Stable Diffusion 1.5's size, batch 1, 16×16 latents",
			rounds: 5, steps: 2, peers: []peer{flax},
			start: startForward(published("sd15"), 1, 16),
			goals: goals{wall: 1, cpu: 1, compile: 2, peak: 1},
		},
		{
			name:   "sd15_unet_forward_64",
			title:  "One forward pass of the UNet of Stable Diffusion 1.5's size, batch 2, 64×64 latents",
			rounds: 4, steps: 1, peers: both,
			start: startForward(published("sd15"), 2, 64), goals: full,
		},
		{
			name:   "sd21_unet_forward_64",
			title:  "One forward pass of the UNet of Stable Diffusion 2.1's size, batch 2, 64×64 latents",
			rounds: 4, steps: 1, peers: both,
			start: startForward(published("sd21"), 2, 64), goals: full,
		},
		{
			name:   "sdxl_unet_forward_64",
			title:  "One forward pass of the UNet of Stable Diffusion XL's size, batch 2, 64×64 latents",
			rounds: 3, steps: 1, peers: both, apart: true,
			start: startForward(published("sdxl"), 2, 64), goals: full,
		},
		{
			name:   "pairs_512",
			title:  "Reading 100 of 2,000 pairs, a JPEG and a PNG of 512×512, as they are",
			rounds: 3, steps: 1, peers: []peer{loader, pillow}, pairs: &squarePairs,
			read: startReading(squarePairs, 512), goals: reading,
		},
		{
			name:   "pairs_512_to_256",
			title:  "The same, resized to 256×256",
			rounds: 3, steps: 1, peers: []peer{loader, pillow}, pairs: &squarePairs,
			read: startReading(squarePairs, 256), goals: reading,
		},
		{
			name:   "pairs_1024_to_512",
			title:  "Reading 100 pairs, out of 256, of 1024×768, resized and cropped to 512×512",
			rounds: 3, steps: 1, peers: []peer{loader, pillow}, pairs: &landscapePairs,
			read: startReading(landscapePairs, 512), goals: reading,
		},
		{
			name:   "build_canny",
			title:  "Making a dataset of 64 JPEGs of 1024×768: 512×512 and their edges, as PNG",
			rounds: 2, steps: 1, peers: []peer{script}, pairs: &rawPairs,
			read: startBuild(rawPairs), goals: goals{wall: 0.5, cpu: 0.5, peak: 1},
		},
	}
}

// choose returns the cases of those names, or all without a name.
func choose(names []string) ([]benchCase, error) {
	all := cases()
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	var chosen []benchCase
	for i, c := range all {
		known[i] = c.name
		for _, name := range names {
			if name == c.name {
				chosen = append(chosen, c)
			}
		}
	}
	if len(chosen) != len(names) {
		return nil, fmt.Errorf("got cases %s, want some of %s", strings.Join(names, ", "), strings.Join(known, ", "))
	}
	return chosen, nil
}
