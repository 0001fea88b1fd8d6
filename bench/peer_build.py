"""A script as teams write it to make a dataset: Pillow, OpenCV and pyarrow, with 2 processes.

    python bench/peer_build.py CASE

It makes what `limner data build --resolution 512 --condition canny` makes: pictures resized and cropped to 512×512, their
edges, both as PNG, and the captions, in HF's layout.
"""

import glob
import io
import json
import multiprocessing
import os

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from peer_worker import serve

SIDE = 512
OUT = "bench/out/built-by-peer"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema([("image", IMAGE), ("conditioning_image", IMAGE), ("text", pa.string())]).with_metadata({
    "huggingface": json.dumps({"info": {"features": {
        "image": {"_type": "Image"}, "conditioning_image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"},
    }}}),
})


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def make(row):
    image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
    scale = SIDE / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    pixels = np.array(image.crop((left, top, left + SIDE, top + SIDE)))
    edges = cv2.Canny(pixels, 100, 200)
    return {"image": png(pixels), "conditioning_image": png(np.stack([edges] * 3, axis=-1)), "text": row["text"]}


def rows(path):
    for batch in pq.ParquetFile(path).iter_batches(32, columns=["image", "text"]):
        yield from batch.to_pylist()


def build(folder):
    os.makedirs(OUT, exist_ok=True)

    def run():
        made = 0
        with multiprocessing.Pool(2) as pool, pq.ParquetWriter(f"{OUT}/train-00000-of-00001.parquet", SCHEMA) as writer:
            for path in glob.glob(f"bench/out/{folder}/*.parquet"):
                group = []
                for row in pool.imap(make, rows(path), chunksize=4):
                    group.append(row)
                    made += 1
                    if len(group) == 100:
                        writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                        group = []
                if group:
                    writer.write_table(pa.Table.from_pylist(group, SCHEMA))
            pool.close()
            pool.join()
        if not made:
            raise RuntimeError("no rows")

    return run, {"compile_wall": 0, "compile_cpu": 0, "parameters": 0, "state_bytes": 0, "alias_bytes": 0}


CASES = {
    "build_canny": lambda: build("pairs-1024x768-64"),
}


if __name__ == "__main__":
    cv2.setNumThreads(1)
    multiprocessing.set_start_method("fork")
    serve(CASES)
