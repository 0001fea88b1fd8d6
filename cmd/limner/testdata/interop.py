"""Loads what limner wrote in diffusers, and runs each network once.

Reads a list of cases from the JSON file argv[1] and writes, for each, inputs and outputs to its "out" as safetensors;
prints one JSON object: the error of each case that fails, and the versions.
"""

import json
import sys
import traceback

import diffusers
import peft
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file, save_file


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def unet_inputs(config):
    inputs = {
        "sample": draw(1, config.in_channels, 8, 8),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": draw(1, 77, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        inputs["added.text_embeds"] = draw(1, pooled)
        inputs["added.time_ids"] = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]])
    return inputs


def run_unet_like(network, inputs, **more):
    added = {k.removeprefix("added."): v for k, v in inputs.items() if k.startswith("added.")}
    return network(
        inputs["sample"],
        inputs["timestep"],
        inputs["encoder_hidden_states"],
        added_cond_kwargs=added or None,
        **more,
    )


def run_unet(unet):
    inputs = unet_inputs(unet.config)
    return {**{"unet." + k: v for k, v in inputs.items()}, "unet": run_unet_like(unet, inputs).sample}


def run_controlnet(net):
    inputs = unet_inputs(net.config)
    side = 8 * 2 ** (len(net.config.conditioning_embedding_out_channels) - 1)
    inputs["image"] = draw(1, 3, side, side).sigmoid()
    out = run_unet_like(net, inputs, controlnet_cond=inputs["image"])
    outputs = {"controlnet.down%d" % i: r for i, r in enumerate(out.down_block_res_samples)}
    return {**{"controlnet." + k: v for k, v in inputs.items()}, **outputs, "controlnet.mid": out.mid_block_res_sample}


def run_vae(vae):
    latents = draw(1, vae.config.latent_channels, 8, 8)
    image = draw(1, 3, 64, 64).tanh()
    return {
        "vae.latents": latents,
        "vae.image": image,
        "vae.decoded": vae.decode(latents).sample,
        "vae.mean": vae.encode(image).latent_dist.mean,
    }


def run_text(encoder, ids):
    return encoder(torch.tensor([ids])).last_hidden_state


def run_pipeline(pipe, prompt):
    out = {}
    for suffix in ["", "_2"]:
        encoder = getattr(pipe, "text_encoder" + suffix, None)
        if encoder is None:
            continue
        tokenizer = getattr(pipe, "tokenizer" + suffix)
        ids = tokenizer(prompt, padding="max_length", truncation=True, max_length=77).input_ids
        out["ids" + suffix] = torch.tensor([ids])
        out["text" + suffix] = run_text(encoder, ids)
    return {**out, **run_unet(pipe.unet), **run_vae(pipe.vae)}


def load(case):
    """Loads a case's file, beside or into its model, and runs it."""
    kind, path, model, prompt = case["kind"], case["path"], case.get("model"), case["prompt"]
    if kind == "controlnet":
        return run_controlnet(ControlNetModel.from_pretrained(path))
    if kind == "controlnet_file":
        return run_controlnet(ControlNetModel.from_single_file(path, config=model))
    if kind == "vae":
        return run_vae(AutoencoderKL.from_pretrained(path))
    if kind == "vae_file":
        return run_vae(AutoencoderKL.from_single_file(path, config=model))
    if kind == "model":
        return run_pipeline(DiffusionPipeline.from_pretrained(path), prompt)
    if kind == "model_file":
        xl = DiffusionPipeline.load_config(model)["_class_name"] == "StableDiffusionXLPipeline"
        single = (StableDiffusionXLPipeline if xl else StableDiffusionPipeline).from_single_file(path, config=model)
        return run_pipeline(single, prompt)
    pipe = DiffusionPipeline.from_pretrained(model)
    if kind == "lora":
        base = run_pipeline(pipe, prompt)
        pipe.load_lora_weights(path)
        return {**run_pipeline(pipe, prompt), "base.unet": base["unet"], "base.text": base["text"]}
    if kind == "inversion":
        state, token = load_file(path), case["token"]
        if len(state) == 1:
            pipe.load_textual_inversion(path)
        else:
            for key, suffix in [("clip_l", ""), ("clip_g", "_2")]:
                encoder, tokenizer = getattr(pipe, "text_encoder" + suffix), getattr(pipe, "tokenizer" + suffix)
                pipe.load_textual_inversion(state[key], token=token, text_encoder=encoder, tokenizer=tokenizer)
        return run_pipeline(pipe, pipe.maybe_convert_prompt(prompt, pipe.tokenizer))
    raise ValueError(kind)


def main():
    errors = {}
    for case in json.load(open(sys.argv[1])):
        try:
            with torch.no_grad():
                out = load(case)
            save_file({k: v.to(torch.float32).contiguous() for k, v in out.items()}, case["out"])
        except Exception:
            errors[case["name"]] = traceback.format_exc(limit=-3)
    versions = {m.__name__: m.__version__ for m in [diffusers, peft, torch, transformers]}
    print(json.dumps({"errors": errors, "versions": versions}))


main()
