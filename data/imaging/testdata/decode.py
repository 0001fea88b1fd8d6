"""Writes testdata/decode: small images of every form that Decode reads, each with PIL's own
convert("RGB") of it as NAME.ref.png. Made with Pillow 13.0.0; run: python decode.py in this folder."""
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

OUT = "decode"
os.makedirs(OUT, exist_ok=True)
rng = np.random.default_rng(0)
W, H = 37, 29
y, x = np.mgrid[0:H, 0:W]
pixels = np.stack([x * 6 % 256, (y * 8 + x * x) % 256, 128 + 100 * np.sin(x * y / 40)], -1).astype("uint8")
src = Image.fromarray(pixels)
gray = src.convert("L")
alpha = Image.fromarray((np.arange(H * W).reshape(H, W) % 256).astype("uint8"))
rgba, la = src.copy(), gray.copy()
rgba.putalpha(alpha)
la.putalpha(alpha)


def png16(name, samples, colour_type):
    """PIL writes no 16-bit colour, so this does."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    h, w = samples.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    with open(f"{OUT}/{name}", "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


cases = {
    "rgb.png": (src, {}), "rgba.png": (rgba, {}), "gray.png": (gray, {}), "gray_alpha.png": (la, {}),
    "bilevel.png": (src.convert("1"), {}), "palette_2bit.png": (src.quantize(3), {"bits": 2}),
    "palette_4bit.png": (src.quantize(13), {"bits": 4}), "palette.png": (src.quantize(200), {}),
    "palette_transparent.png": (src.quantize(20), {"transparency": 3}),
    "rgb_transparent.png": (src, {"transparency": tuple(int(v) for v in pixels[0, 0])}),
    "444.jpg": (src, {"subsampling": 0}), "422.jpg": (src, {"subsampling": 1}), "420.jpg": (src, {"subsampling": 2}),
    "411.jpg": (src, {"subsampling": "4:1:1"}), "420_progressive.jpg": (src, {"subsampling": 2, "progressive": True}),
    "gray.jpg": (gray, {}), "cmyk.jpg": (src.convert("CMYK"), {"quality": 95}), "rgb.jpg": (src, {"keep_rgb": True}),
    "narrow.jpg": (src.crop((0, 0, 4, 3)), {"subsampling": 2}), "one_row.jpg": (src.crop((0, 0, 7, 1)), {"subsampling": 2}),
    "palette.gif": (src, {}), "lossless.webp": (src, {"lossless": True}),
    "lossless_alpha.webp": (rgba, {"lossless": True, "exact": True}), "lossy.webp": (src, {"quality": 80}),
    "lossy_alpha.webp": (rgba, {"quality": 80}), "lossy_even.webp": (src.crop((0, 0, 36, 28)), {}),
}
for orientation in range(2, 9):
    exif = Image.Exif()
    exif[0x112] = orientation
    cases[f"exif{orientation}.jpg"] = (src, {"exif": exif, "quality": 30})
for name, (image, options) in cases.items():
    image.save(f"{OUT}/{name}", **options)
png16("rgb16.png", rng.integers(0, 65536, (9, 11, 3)), 2)
png16("rgba16.png", rng.integers(0, 65536, (9, 11, 4)), 6)
png16("gray_alpha16.png", rng.integers(0, 65536, (9, 11, 2)), 4)
for name in sorted(os.listdir(OUT)):
    if not name.endswith(".ref.png"):
        image = ImageOps.exif_transpose(Image.open(f"{OUT}/{name}"))
        image.convert("RGB").save(f"{OUT}/{name}.ref.png", optimize=True)
