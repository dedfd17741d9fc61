"""Writes pillow.txt: checksums of what Pillow makes of generated pictures.

Needs Pillow and numpy; run as `python3 pillow.py > pillow.txt`.

Every line is `PATTERN W H OP A B CRC`: a W x H picture of PATTERN, after OP
  resize   A x B                                    (Image.resize, BILINEAR)
  eval     shorter side to A, centre B x B cropped  (torchvision's Resize and CenterCrop)
and the CRC-32 of the resulting RGB bytes.
"""

import random
import zlib

import numpy as np
import PIL
from PIL import Image


def picture(pattern, w, h):
    """Byte i is a hash of i; `noise` takes its top byte, `bits` saturates it, `ramp` adds a slope."""
    with np.errstate(over="ignore"):
        i = np.arange(w * h * 3, dtype=np.uint64)
        z = (i + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        top = (z ^ (z >> np.uint64(31))) >> np.uint64(56)
    if pattern == "bits":
        top = (top >> np.uint64(7)) * np.uint64(255)
    elif pattern == "ramp":
        top = ((i // np.uint64(7)) + (top >> np.uint64(4))) & np.uint64(255)
    elif pattern == "white":
        top = np.full_like(top, 255)
    return Image.fromarray(top.astype(np.uint8).reshape(h, w, 3), "RGB")


def evaluate(img, side, crop):
    w, h = img.size
    short, long = (w, h) if w <= h else (h, w)
    new_long = int(side * long / short)
    img = img.resize((side, new_long) if w <= h else (new_long, side), Image.BILINEAR)
    w, h = img.size
    if crop > w or crop > h:
        left, top = (crop - w) // 2 if crop > w else 0, (crop - h) // 2 if crop > h else 0
        padded = Image.new("RGB", (max(w, crop), max(h, crop)))
        padded.paste(img, (left, top))
        img, (w, h) = padded, padded.size
    top, left = int(round((h - crop) / 2.0)), int(round((w - crop) / 2.0))
    return img.crop((left, top, left + crop, top + crop))


def emit(pattern, w, h, op, a, b):
    img = picture(pattern, w, h)
    out = img.resize((a, b), Image.BILINEAR) if op == "resize" else evaluate(img, a, b)
    print(pattern, w, h, op, a, b, f"{zlib.crc32(out.tobytes()):08x}")


print("# Pillow", PIL.__version__)
for w, h, a, b in [
    (1, 1, 1, 1), (1, 1, 7, 5), (2, 1, 1, 1), (1, 2, 1, 1), (3, 3, 2, 2), (7, 5, 7, 5), (7, 5, 7, 9), (7, 5, 11, 5),
    (32, 32, 31, 33), (33, 17, 224, 224), (500, 375, 341, 256), (375, 500, 256, 341), (500, 375, 500, 256),
    (640, 480, 32, 32), (1000, 3, 10, 300), (3, 1000, 300, 10), (4000, 1, 1, 1), (1, 4000, 1, 1), (5000, 2, 7, 3),
    (1, 1, 300, 2), (2, 300, 4000, 1), (301, 299, 300, 300), (299, 301, 100, 602),
]:
    for pattern in ("noise", "bits"):
        emit(pattern, w, h, "resize", a, b)
emit("white", 999, 777, "resize", 13, 17)
for w, h, a, b in [
    (500, 375, 256, 224), (375, 500, 256, 224), (224, 224, 224, 224), (256, 256, 256, 224), (257, 400, 256, 224),
    (32, 32, 256, 224), (1, 300, 256, 224), (300, 1, 16, 9), (33, 31, 32, 32), (40, 21, 16, 33), (21, 40, 15, 19),
    (400, 300, 232, 224), (300, 400, 480, 480), (320, 240, 225, 224), (241, 240, 227, 224), (1024, 100, 100, 99),
]:
    for pattern in ("noise", "ramp"):
        emit(pattern, w, h, "eval", a, b)
rng = random.Random(2016)
for _ in range(60):
    w, h, a, b = (int(2 ** rng.uniform(0, 8.5)) for _ in range(4))
    emit(rng.choice(["noise", "bits", "ramp"]), w, h, "resize", a, b)
for _ in range(40):
    w, h, a, b = (int(2 ** rng.uniform(3, 8.5)) for _ in range(4))
    emit(rng.choice(["noise", "bits", "ramp"]), w, h, "eval", a, b)
# Which pass comes first turns on h - b > 2 (w - a).
for _ in range(30):
    w, h = (rng.randint(30, 300) for _ in range(2))
    a = max(1, int(w * rng.uniform(0.6, 1.1)))
    b = max(1, h - 2 * (w - a) + rng.randint(-2, 2))
    emit("noise", w, h, "resize", a, b)
for w, h in [(300, 1000), (240, 700), (257, 640), (500, 1500)]:
    emit("noise", w, h, "eval", 256, 224)
