"""stable-diffusion.cpp's side of the benchmarks, through its Python package, on two threads."""

import glob
import json
import math
import os
import struct

from stable_diffusion_cpp import StableDiffusion

from peer_worker import serve

SD15 = "bench/out/sd15"


def parameters(folder):
    total = 0
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total


def sample_sd15(side):
    """An image by 4 Euler steps with guidance, from prompt to pixels. Weights keep the file's float16, which is how it is fastest."""
    model = StableDiffusion(model_path=SD15, n_threads=2, verbose=False)

    def run():
        image = model.generate_image(
            prompt="a red circle with a blue background", negative_prompt="blurry", width=side, height=side, cfg_scale=7.5,
            sample_method="euler", sample_steps=4, seed=1,
        )[0]
        image.tobytes()

    return run, {"compile_wall": 0, "compile_cpu": 0, "parameters": parameters(SD15 + "/unet"), "state_bytes": 0, "alias_bytes": 0}


CASES = {
    "sample_sd15": lambda: sample_sd15(256),
}


if __name__ == "__main__":
    serve(CASES)
