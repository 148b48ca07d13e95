"""Squares of the two photographs that jobs/tiny/tiny.toml holds out: nothing in jobs/tiny/package has learnt from them.

    jobs/photos.sh PHOTOS
    python tests/golden/make_held_out.py PHOTOS

Writes a strip of four squares of 64x64 pixels for each, as they are in the photograph, and checks that it is these two that
are held out. Needs blake3 and Pillow.
"""

import json
import pathlib
import sys

from blake3 import blake3
from PIL import Image

SIDE = 64
HELD_OUT = 2

photos = pathlib.Path(sys.argv[1])
out = pathlib.Path(__file__).parent / "held_out"


def place(path):
    """Where jobctl has a picture in the order in which pictures are held out (src/sweep/datasets.rs)."""
    content = blake3(path.read_bytes()).hexdigest()
    return blake3(json.dumps(["held out", content], separators=(",", ":")).encode()).digest()


for path in sorted(photos.glob("*.jpg"), key=place)[:HELD_OUT]:
    photo = Image.open(path)
    assert photo.getexif().get(0x0112, 1) == 1, f"{path} is turned"
    strip = Image.new("RGB", (4 * SIDE, SIDE))
    for idx, (across, down) in enumerate([(1, 1), (3, 1), (1, 3), (3, 3)]):
        left, top = photo.width * across // 4 - SIDE // 2, photo.height * down // 4 - SIDE // 2
        strip.paste(photo.crop((left, top, left + SIDE, top + SIDE)), (idx * SIDE, 0))
    strip.save(out / f"{path.stem}.png", optimize=True)
    print(path.name)
