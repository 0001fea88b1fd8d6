"""How Python reads pairs for the training of a ControlNet: datasets, Pillow and torch's DataLoader.

    python bench/peer_pairs.py CASE WORKERS

It makes what ours makes of the same file: pixel values in [-1, 1] and conditioning pixel values in [0, 1] of batches of
random rows, as diffusers' train_controlnet.py does, with torchvision's steps spelled out. With 0 workers all is done in
this process.
"""

import glob
import os
import sys

import datasets
import numpy as np
import torch
from PIL import Image

from peer_worker import serve

BATCH = 4
PAIRS = 100  # of a step: stepPairs in pairs.go


def fitted(image, side):
    """Resize(side) and CenterCrop(side) of torchvision, and the bytes as floats in [0, 1], channels first."""
    image = image.convert("RGB")
    width, height = image.size
    if (width, height) != (side, side):
        if width <= height:
            width, height = side, int(side * height / width)
        else:
            width, height = int(side * width / height), side
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - side) / 2), round((height - side) / 2)
        image = image.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return pixels.to(torch.float32).div(255)


def held_bytes():
    """The memory of this process and its workers; what they share counts once."""
    total = 0
    processes = [os.getpid()]
    for path in glob.glob("/proc/self/task/*/children"):
        with open(path) as children:
            processes += map(int, children.read().split())
    for process in processes:
        try:
            with open(f"/proc/{process}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
        except OSError:  # it has just ended
            pass
    return total


def read(folder, side, workers):
    rows = datasets.load_dataset(
        "parquet", data_files=glob.glob(f"bench/out/{folder}/*.parquet"), split="train", cache_dir="bench/out/datasets",
    )
    most = 0

    def transform(examples):
        return {
            "pixel_values": [fitted(image, side).sub_(0.5).div_(0.5) for image in examples["image"]],
            "conditioning_pixel_values": [fitted(image, side) for image in examples["conditioning_image"]],
            "text": examples["text"],
        }

    def collate(examples):
        return {
            "pixel_values": torch.stack([e["pixel_values"] for e in examples]),
            "conditioning_pixel_values": torch.stack([e["conditioning_pixel_values"] for e in examples]),
            "text": [e["text"] for e in examples],
        }

    rows = rows.with_transform(transform)
    loader = torch.utils.data.DataLoader(
        rows, batch_size=BATCH, collate_fn=collate, num_workers=int(workers),
        sampler=torch.utils.data.RandomSampler(rows, num_samples=PAIRS),
    )

    def run():
        nonlocal most
        for i, batch in enumerate(loader):
            if batch["pixel_values"].shape != (BATCH, 3, side, side):
                raise RuntimeError(f"a batch of shape {batch['pixel_values'].shape}")
            if i % 10 == 9:
                most = max(most, held_bytes())

    setup = {"compile_wall": 0, "compile_cpu": 0, "parameters": 0, "state_bytes": 0, "alias_bytes": 0}
    return run, setup, lambda: most


CASES = {
    "pairs_512": lambda workers: read("pairs-512x512-2000", 512, workers),
    "pairs_512_to_256": lambda workers: read("pairs-512x512-2000", 256, workers),
    "pairs_1024_to_512": lambda workers: read("pairs-1024x768-256", 512, workers),
}


if __name__ == "__main__":
    torch.set_num_threads(1)  # more only wait for each other
    datasets.disable_progress_bars()
    serve(CASES, *sys.argv[2:])
