"""What the TPU's compiler makes of diffusers' Flax side, for the four chips of a v4-8 that need not be here, beside limner plan's figures.

    TPU_LIBRARY_PATH=…/libtpu.so python bench/peer_tpu.py [--effort default] [train] [denoise] [decode]

Stable Diffusion 1.5 with a ControlNet at 512×512, in bfloat16 with float32 weights: the training step of train_controlnet_flax.py at batch 4 a chip, one
denoising step with guidance, and the decoding of an image. Prints JSON: for each program, figures of one chip at quick effort (XLA's O0) or the
compiler's own, and the file in this folder that holds the optimised program (an HloModuleProto), of which go run ./bench tpu counts the traffic.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v4-8")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from diffusers import FlaxAutoencoderKL, FlaxControlNetModel, FlaxUNet2DConditionModel
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from transformers import CLIPTextConfig, FlaxCLIPTextModel

from peer import controlnet_training, weight_shapes

DTYPE = jnp.bfloat16
O0 = 9  # XLA's number of the quick effort
CHIPS = topologies.get_topology_desc(
    platform="tpu", topology_name="v4:2x2x1", chip_config_name="megacore", chips_per_host_bounds=(2, 2, 1), num_slices=1,
).devices
MESH = Mesh(np.array(CHIPS), ("data",))
UNET = FlaxUNet2DConditionModel(sample_size=64, cross_attention_dim=768, dtype=DTYPE)
CONTROL = FlaxControlNetModel(sample_size=64, cross_attention_dim=768, dtype=DTYPE)
VAE = FlaxAutoencoderKL(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4, dtype=DTYPE,
)
TEXT = FlaxCLIPTextModel(CLIPTextConfig(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
), dtype=DTYPE, _do_init=False)


def whole(tree):
    """Arguments that every chip holds whole."""
    place = NamedSharding(MESH, PartitionSpec())
    return jax.tree_util.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


def divided(shape, dtype=jnp.float32):
    """A batch, of which each chip holds its rows."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(MESH, PartitionSpec("data")))


def train(batch=4):
    rows = batch * len(CHIPS)
    optimizer, loss_of = controlnet_training(UNET, CONTROL, VAE, TEXT)

    def step(params, moments, frozen, pixels, ids, condition, key):
        loss, grads = jax.value_and_grad(loss_of)(params, frozen, pixels, ids, condition, key)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, loss

    params = weight_shapes(CONTROL)
    frozen = {"unet": weight_shapes(UNET), "vae": weight_shapes(VAE), "text": jax.eval_shape(lambda: TEXT.init_weights(jax.random.PRNGKey(0), (1, 77)))}
    arguments = (
        whole(params), whole(jax.eval_shape(optimizer.init, params)), whole(frozen), divided((rows, 3, 512, 512)), divided((rows, 77), jnp.int32),
        divided((rows, 3, 512, 512)), whole(jax.eval_shape(lambda: jax.random.PRNGKey(0))),
    )
    return jax.jit(step, donate_argnums=(0, 1)), arguments


def denoise():
    rows = 2 * len(CHIPS)  # with and without the prompt, an image a chip

    def step(params, latents, timesteps, hidden, condition):
        down, mid = CONTROL.apply({"params": params["control"]}, latents, timesteps, hidden, condition, return_dict=False)
        return UNET.apply(
            {"params": params["unet"]}, latents, timesteps, hidden, down_block_additional_residuals=down, mid_block_additional_residual=mid,
        ).sample

    half = jax.tree_util.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, DTYPE), {"control": weight_shapes(CONTROL), "unet": weight_shapes(UNET)})
    arguments = whole(half), divided((rows, 4, 64, 64)), divided((rows,), jnp.int32), divided((rows, 77, 768)), divided((rows, 3, 512, 512))
    return jax.jit(step), arguments


def decode():
    half = jax.tree_util.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, DTYPE), weight_shapes(VAE))
    f = jax.jit(lambda params, latents: VAE.apply({"params": params}, latents, method=VAE.decode).sample)
    return f, (whole(half), divided((len(CHIPS), 4, 64, 64)))


def figures(name, effort):
    f, arguments = PROGRAMS[name]()
    compiled = f.lower(*arguments).compile({"optimization_level": O0, "memory_fitting_level": O0} if effort == "quick" else {})
    program = pathlib.Path(__file__).with_name(f"tpu-peer-{name}.hlo")
    program.write_bytes(compiled.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto())
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return {
        "argument_bytes": memory.argument_size_in_bytes, "temporary_bytes": memory.temp_size_in_bytes, "peak_bytes": memory.peak_memory_in_bytes,
        "flop": cost["flops"], "bytes_accessed": cost["bytes accessed"], "optimal_seconds": cost["optimal_seconds"],
        "program": program.name,
    }


PROGRAMS = {"train": train, "denoise": denoise, "decode": decode}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", nargs="*", metavar="program", help=" ".join(PROGRAMS))
    parser.add_argument("--effort", choices=("quick", "default"), default="quick")
    options = parser.parse_args()
    print(json.dumps({name: figures(name, options.effort) for name in options.programs or PROGRAMS}, indent=2))
