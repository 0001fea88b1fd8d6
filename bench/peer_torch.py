"""diffusers' PyTorch side of the benchmarks, on two threads."""

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, EulerDiscreteScheduler, StableDiffusionControlNetPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from peer_worker import serve

TINY = "testdata/goldens/sd15-tiny"


def unet_forward(batch, side, text_width, **config):
    """A UNet in float32 on a batch of latents."""
    with torch.device("meta"):
        model = UNet2DConditionModel(cross_attention_dim=text_width, **config)
    model = model.to_empty(device="cpu").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1)
            else:
                bound = parameter[0].numel() ** -0.5
                parameter.uniform_(-bound, bound)
    inputs = [torch.randn(batch, 4, side, side), torch.full((batch,), 500.0), torch.randn(batch, 77, text_width)]
    added = None
    if config.get("addition_embed_type"):
        added = {"text_embeds": torch.randn(batch, 1280), "time_ids": torch.full((batch, 6), 512.0)}

    @torch.no_grad()
    def run():
        if not torch.isfinite(model(*inputs, added_cond_kwargs=added).sample).all():
            raise RuntimeError("the output is not finite")

    return run, {
        "compile_wall": 0, "compile_cpu": 0, "parameters": sum(p.numel() for p in model.parameters()),
        "state_bytes": 0, "alias_bytes": 0,
    }


MIDDLING = dict(
    sample_size=32, block_out_channels=(128, 256, 512, 512), attention_head_dim=8, layers_per_block=2,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), cross_attention_dim=32,
)


def sample(middling, side):
    """An image by 20 DDIM steps with guidance and a ControlNet, from prompt to pixels."""
    if middling:
        unet = UNet2DConditionModel(up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, **MIDDLING)
        controlnet = ControlNetModel(**{k: v for k, v in MIDDLING.items() if k != "sample_size"})
        vae = AutoencoderKL(
            block_out_channels=(16, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, norm_num_groups=4,
        )
    else:
        unet = UNet2DConditionModel.from_pretrained(TINY, subfolder="unet")
        controlnet = ControlNetModel.from_pretrained(TINY, subfolder="controlnet")
        vae = AutoencoderKL.from_pretrained(TINY, subfolder="vae")
    pipe = StableDiffusionControlNetPipeline(
        vae=vae, text_encoder=CLIPTextModel.from_pretrained(TINY, subfolder="text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(TINY, subfolder="tokenizer"), unet=unet, controlnet=controlnet,
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, set_alpha_to_one=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    condition, latents = torch.rand(1, 3, side, side), torch.randn(1, 4, side // 8, side // 8)

    def run():
        images = pipe(
            "a red circle with a blue background", condition, negative_prompt="blurry", num_inference_steps=20,
            guidance_scale=7.5, latents=latents.clone(), height=side, width=side, output_type="pil",
        ).images
        images[0].tobytes()

    return run, {
        "compile_wall": 0, "compile_cpu": 0, "parameters": sum(p.numel() for m in (unet, controlnet) for p in m.parameters()),
        "state_bytes": 0, "alias_bytes": 0,
    }


def sample_sd15(side):
    """An image by 4 Euler steps with guidance, from prompt to pixels, by a model of Stable Diffusion 1.5's size."""
    pipe = StableDiffusionPipeline.from_pretrained("bench/out/sd15", torch_dtype=torch.float32, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def run():
        images = pipe(
            "a red circle with a blue background", negative_prompt="blurry", num_inference_steps=4, guidance_scale=7.5,
            generator=torch.Generator().manual_seed(1), height=side, width=side, output_type="pil",
        ).images
        images[0].tobytes()

    return run, {
        "compile_wall": 0, "compile_cpu": 0, "parameters": sum(p.numel() for p in pipe.unet.parameters()), "state_bytes": 0, "alias_bytes": 0,
    }


SD15 = dict(text_width=768, attention_head_dim=8)
SD21 = dict(text_width=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
SDXL = dict(
    text_width=2048, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), use_linear_projection=True,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)

CASES = {
    "sample_tiny": lambda: sample(False, 64),
    "sample_middling": lambda: sample(True, 256),
    "sample_sd15": lambda: sample_sd15(256),
    "sd15_unet_forward_64": lambda: unet_forward(2, 64, **SD15),
    "sd21_unet_forward_64": lambda: unet_forward(2, 64, **SD21),
    "sdxl_unet_forward_64": lambda: unet_forward(2, 64, **SDXL),
}


if __name__ == "__main__":
    torch.set_num_threads(2)
    serve(CASES)
