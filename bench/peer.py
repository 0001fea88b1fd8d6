"""The Flax side of the benchmarks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from diffusers import (
    FlaxAutoencoderKL, FlaxControlNetModel, FlaxDDIMScheduler, FlaxStableDiffusionControlNetPipeline, FlaxUNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTokenizer, FlaxCLIPTextModel

from peer_worker import serve, timed

TINY = "testdata/goldens/sd15-tiny"


def weight_shapes(model):
    """The shapes of the weights, from which a program is compiled before they take memory, as ours is."""
    return jax.eval_shape(model.init_weights, jax.random.PRNGKey(0))


def count(shapes):
    return sum(leaf.size for leaf in jax.tree_util.tree_leaves(shapes))


def random_weights(shapes):
    """Draws the weights one tensor at a time, so that no second copy of them raises the peak."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "scale":
            return jnp.ones(leaf.shape, jnp.float32)
        if name == "bias":
            return jnp.zeros(leaf.shape, jnp.float32)
        fan_in = int(np.prod(leaf.shape[:-1]))
        data = rng.random(leaf.shape, np.float32)
        data -= 0.5
        data *= 2 / fan_in**0.5
        return jax.device_put(data)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def train_step_small_unet():
    """UNet of 4.4 M parameters, batch 4, 32×32×4 latents, ε loss, clipping by global norm, AdamW, state donated."""
    batch, tokens, text_width = 4, 77, 64
    model = FlaxUNet2DConditionModel(
        sample_size=32, in_channels=4, out_channels=4, block_out_channels=(64, 128), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=text_width, attention_head_dim=8, flip_sin_to_cos=True, freq_shift=0,
    )
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float32) ** 2
    alphas_cumprod = np.cumprod(1 - betas)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(1e-4, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-2),
    )

    def loss_of(params, latents, text, key):
        noise_key, timestep_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, latents.shape)
        timesteps = jax.random.randint(timestep_key, (batch,), 0, 1000)
        alphas = jnp.asarray(alphas_cumprod)[timesteps][:, None, None, None]
        noisy = jnp.sqrt(alphas) * latents + jnp.sqrt(1 - alphas) * noise
        prediction = model.apply({"params": params}, noisy, timesteps, text).sample
        return jnp.mean((prediction - noise) ** 2)

    def step(params, moments, latents, text, seed, n):
        key = jax.random.fold_in(jax.random.PRNGKey(seed), n)
        loss, grads = jax.value_and_grad(loss_of)(params, latents, text, key)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, loss, optax.global_norm(grads)

    rng = np.random.default_rng(1)
    # The Flax classes take images as [batch, channels, height, width] and transpose them inside.
    latents = rng.standard_normal((batch, 4, 32, 32)).astype(np.float32)
    text = rng.standard_normal((batch, tokens, text_width)).astype(np.float32)
    shapes = weight_shapes(model)
    arguments = (shapes, jax.eval_shape(optimizer.init, shapes), latents, text, np.uint32(0), np.uint32(1))
    donating = jax.jit(step, donate_argnums=(0, 1))
    compiled, wall, cpu = timed(lambda: donating.lower(*arguments).compile())
    params = random_weights(shapes)
    state = [params, optimizer.init(params)]
    del params
    sizes = [leaf.nbytes for leaf in jax.tree_util.tree_leaves(state)]
    n = 0

    def run():
        nonlocal n
        n += 1
        state[0], state[1], loss, norm = compiled(state[0], state[1], latents, text, np.uint32(0), np.uint32(n))
        if not np.isfinite(float(loss)) or not np.isfinite(float(norm)):
            raise RuntimeError(f"step {n}: loss {float(loss)}, gradient norm {float(norm)}")

    return run, {
        "compile_wall": wall, "compile_cpu": cpu, "parameters": count(shapes),
        "state_bytes": sum(sizes), "alias_bytes": compiled.memory_analysis().alias_size_in_bytes,
    }


def unet_forward(batch, side, text_width, **config):
    """A UNet in float32 on a batch of latents."""
    model = FlaxUNet2DConditionModel(
        sample_size=side, in_channels=4, out_channels=4, layers_per_block=2, cross_attention_dim=text_width,
        flip_sin_to_cos=True, freq_shift=0, **config,
    )
    rng = np.random.default_rng(1)
    inputs = [
        rng.standard_normal((batch, 4, side, side)).astype(np.float32),
        np.full(batch, 500, np.float32),
        rng.standard_normal((batch, 77, text_width)).astype(np.float32),
    ]
    if config.get("addition_embed_type"):
        inputs.append({
            "text_embeds": rng.standard_normal((batch, 1280)).astype(np.float32),
            "time_ids": np.full((batch, 6), 512, np.float32),
        })
    shapes = weight_shapes(model)
    forward = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs).sample)
    compiled, wall, cpu = timed(lambda: forward.lower(shapes, *inputs).compile())
    params = random_weights(shapes)

    def run():
        if not np.isfinite(np.asarray(compiled(params, *inputs))).all():
            raise RuntimeError("the output is not finite")

    return run, {
        "compile_wall": wall, "compile_cpu": cpu, "parameters": count(shapes),
        "state_bytes": 0, "alias_bytes": 0,
    }


def sample(widths, vae_widths, side):
    """An image by 20 DDIM steps with guidance and a ControlNet, from prompt to pixels, in one program."""
    blocks = len(widths)
    down = ("CrossAttnDownBlock2D",) * (blocks - 1) + ("DownBlock2D",)
    common = dict(block_out_channels=widths, layers_per_block=2, attention_head_dim=8, cross_attention_dim=32, flip_sin_to_cos=True, freq_shift=0)
    unet = FlaxUNet2DConditionModel(
        sample_size=side // 8, down_block_types=down, up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (blocks - 1), **common,
    )
    controlnet = FlaxControlNetModel(sample_size=side // 8, down_block_types=down, **common)
    vae = FlaxAutoencoderKL(
        block_out_channels=vae_widths, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2, norm_num_groups=4,
    )
    text = FlaxCLIPTextModel(CLIPTextConfig.from_pretrained(TINY, subfolder="text_encoder"), seed=0)
    scheduler = FlaxDDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False)
    pipe = FlaxStableDiffusionControlNetPipeline(
        vae=vae, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(TINY, subfolder="tokenizer"), unet=unet,
        controlnet=controlnet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
    )
    rng = np.random.default_rng(1)
    prompts = pipe.prepare_text_inputs(["a red circle with a blue background"])
    negative = pipe.prepare_text_inputs(["blurry"])
    image = rng.random((1, 3, side, side), np.float32)
    latents = rng.standard_normal((1, 4, side // 8, side // 8)).astype(np.float32)
    shapes = {"unet": weight_shapes(unet), "controlnet": weight_shapes(controlnet), "vae": weight_shapes(vae)}

    def generate(params, prompts, negative, image, latents, key):
        return pipe._generate(prompts, image, params, key, 20, 7.5, latents, negative, 1.0)

    rest = {"text_encoder": text.params, "scheduler": scheduler.create_state()}
    arguments = (prompts, negative, image, latents, jax.random.PRNGKey(0))
    compiled, wall, cpu = timed(lambda: jax.jit(generate).lower({**shapes, **rest}, *arguments).compile())
    params = {**{name: random_weights(shape) for name, shape in shapes.items()}, **rest}

    def run():
        pixels = np.asarray(compiled(params, *arguments))
        pipe.numpy_to_pil(pixels)[0].tobytes()

    return run, {
        "compile_wall": wall, "compile_cpu": cpu, "parameters": count(shapes["unet"]) + count(shapes["controlnet"]),
        "state_bytes": 0, "alias_bytes": 0,
    }


def controlnet_training(unet, controlnet, vae, text):
    """The optimizer and the loss of train_controlnet_flax.py."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float32) ** 2
    alphas_cumprod = np.cumprod(1 - betas)

    def loss_of(params, frozen, pixels, ids, condition, key):
        posterior_key, noise_key, timestep_key = jax.random.split(key, 3)
        posterior = vae.apply({"params": frozen["vae"]}, pixels, deterministic=True, method=vae.encode).latent_dist
        latents = jnp.transpose(posterior.sample(posterior_key), (0, 3, 1, 2)) * vae.config.scaling_factor
        noise = jax.random.normal(noise_key, latents.shape)
        timesteps = jax.random.randint(timestep_key, (len(pixels),), 0, 1000)
        alphas = jnp.asarray(alphas_cumprod)[timesteps][:, None, None, None]
        noisy = jnp.sqrt(alphas) * latents + jnp.sqrt(1 - alphas) * noise
        hidden = text(ids, params=frozen["text"], train=False)[0]
        down, mid = controlnet.apply({"params": params}, noisy, timesteps, hidden, condition, train=True, return_dict=False)
        prediction = unet.apply(
            {"params": frozen["unet"]}, noisy, timesteps, hidden, down_block_additional_residuals=down, mid_block_additional_residual=mid,
        ).sample
        return jnp.mean((noise - prediction) ** 2)

    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-2)), loss_of


def controlnet_step():
    """The step of train_controlnet_flax.py with a ControlNet of middling size: UNet, VAE and text encoder frozen, batch 4 of 256×256.

    It stands for both cases: the script cannot keep latents."""
    batch, side, width = 4, 256, 256
    common = dict(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, attention_head_dim=8, cross_attention_dim=width,
        flip_sin_to_cos=True, freq_shift=0, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), sample_size=side // 8,
    )
    unet = FlaxUNet2DConditionModel(up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, **common)
    controlnet = FlaxControlNetModel(**common)
    vae = FlaxAutoencoderKL(
        block_out_channels=(64, 128, 256, 256), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2,
    )
    text = FlaxCLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=6, num_attention_heads=4,
    ), _do_init=False)
    optimizer, loss_of = controlnet_training(unet, controlnet, vae, text)

    def step(params, moments, frozen, pixels, ids, condition, seed, n):
        key = jax.random.fold_in(jax.random.PRNGKey(seed), n)
        loss, grads = jax.value_and_grad(loss_of)(params, frozen, pixels, ids, condition, key)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, loss, optax.global_norm(grads)

    rng = np.random.default_rng(1)
    pixels, condition = (rng.standard_normal((batch, 3, side, side)).astype(np.float32) for _ in range(2))
    ids = rng.integers(0, 49408, (batch, 77)).astype(np.int32)
    text_shapes = jax.eval_shape(lambda: text.init_weights(jax.random.PRNGKey(0), (1, 77)))
    shapes = weight_shapes(controlnet)
    frozen_shapes = {"unet": weight_shapes(unet), "vae": weight_shapes(vae), "text": text_shapes}
    arguments = (shapes, jax.eval_shape(optimizer.init, shapes), frozen_shapes, pixels, ids, condition, np.uint32(0), np.uint32(1))
    compiled, wall, cpu = timed(lambda: jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile())
    params = random_weights(shapes)
    frozen = {name: random_weights(shape) for name, shape in frozen_shapes.items()}
    state = [params, optimizer.init(params)]
    del params
    n = 0

    def run():
        nonlocal n
        n += 1
        state[0], state[1], loss, norm = compiled(state[0], state[1], frozen, pixels, ids, condition, np.uint32(0), np.uint32(n))
        if not np.isfinite(float(loss)) or not np.isfinite(float(norm)):
            raise RuntimeError(f"step {n}: loss {float(loss)}, gradient norm {float(norm)}")

    return run, {"compile_wall": wall, "compile_cpu": cpu, "parameters": count(shapes), "state_bytes": 0, "alias_bytes": 0}


SD15 = dict(text_width=768, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8)
SD21 = dict(
    text_width=1024, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=(5, 10, 20, 20), use_linear_projection=True,
)
SDXL = dict(
    text_width=2048, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), use_linear_projection=True,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)

CASES = {
    "controlnet_step": controlnet_step,
    "controlnet_step_cached": controlnet_step,
    "sample_middling": lambda: sample((128, 256, 512, 512), (16, 32, 32, 32), 256),
    "train_step_small_unet": train_step_small_unet,
    "sd15_unet_forward": lambda: unet_forward(1, 16, **SD15),
    "sd15_unet_forward_64": lambda: unet_forward(2, 64, **SD15),
    "sd21_unet_forward_64": lambda: unet_forward(2, 64, **SD21),
    "sdxl_unet_forward_64": lambda: unet_forward(2, 64, **SDXL),
}


if __name__ == "__main__":
    serve(CASES)
