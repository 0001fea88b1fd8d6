"""stable-diffusion.cpp's side of the benchmarks, through its Python package, on two threads. It is driven as peer.py is."""

import glob
import json
import math
import os
import resource
import struct
import sys
import time

from stable_diffusion_cpp import StableDiffusion

SD15 = "bench/out/sd15"


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


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


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in CASES:
        sys.exit(f"usage: python bench/peer_sdcpp.py {'|'.join(CASES)}")
    answers = os.dup(1)
    os.dup2(2, 1)  # the library prints progress where the answers go
    with os.fdopen(answers, "w") as out:
        run, setup = CASES[sys.argv[1]]()
        print(json.dumps(setup), file=out, flush=True)
        for line in sys.stdin:
            for _ in range(int(line)):
                wall, cpu = time.perf_counter(), cpu_seconds()
                run()
                cost = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu, "peak": peak_bytes()}
                print(json.dumps(cost), file=out, flush=True)


if __name__ == "__main__":
    main()
