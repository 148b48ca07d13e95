"""Makes images/ and images.json: what OpenCV, Pillow and SciPy make of the same files and pixels.

    jobs/photos.sh PHOTOS
    pip install blake3 numpy==2.4.6 scipy==1.17.1 pillow==13.0.0 opencv-python-headless==5.0.0.93
    python tests/golden/make_images.py PHOTOS

The small files are drawn here; nothing in them comes from elsewhere.
"""

import io
import json
import pathlib
import struct
import sys
import zlib

import blake3
import cv2
import numpy as np
import PIL
import scipy
from PIL import Image
from scipy import ndimage

HERE = pathlib.Path(__file__).parent
FILES = HERE / "images"
QUALITIES = [10, 30, 50, 70, 90, 95]


def pattern(width, height, kind=0):
    """Drawn with whole numbers only; tests/it/image.rs draws the same."""
    x, y = np.meshgrid(np.arange(width, dtype=np.int64), np.arange(height, dtype=np.int64))
    if kind == 0:  # edges and slopes
        planes = [x * 3 + y, (x * y) // 7, (x // 8 + y // 8) % 2 * 200 + x % 50]
    elif kind == 1:  # smooth
        planes = [x * 255 // max(width, 2), y * 255 // max(height, 2), (x + y) * 255 // (width + height)]
    else:  # noise: a linear congruential generator, row-major, red, green, blue
        state, values = 12345, []
        for _ in range(width * height * 3):
            state = (state * 1103515245 + 12345) % 2**31
            values.append(state >> 16 & 255)
        return np.array(values, np.uint8).reshape(height, width, 3)
    return (np.stack(planes, -1) % 256).astype(np.uint8)


def digest(array):
    return blake3.blake3(np.ascontiguousarray(array).tobytes()).hexdigest()


def opencv(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def pillow(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, color, rows, *between):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(between) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def good_files():
    color = Image.fromarray(pattern(45, 29))
    grey = color.convert("L")
    alpha = Image.fromarray(pattern(45, 29)[:, :, 1])
    rgba = color.copy()
    rgba.putalpha(alpha)
    yield "plain.jpg", pillow(color, "JPEG", quality=90)
    for n in range(1, 9):
        yield f"turned{n}.jpg", pillow(color, "JPEG", quality=90, exif=exif(n))
    for n in (3, 6):
        yield f"turned{n}.png", pillow(color, "PNG", exif=exif(n))
    for n in (5, 8):
        yield f"turned{n}.webp", pillow(color, "WEBP", lossless=True, exif=exif(n))
    yield "turned6-lossy.webp", pillow(color, "WEBP", quality=80, exif=exif(6))
    yield "turned-out-of-range.jpg", pillow(color, "JPEG", quality=90, exif=exif(9))
    plain = pillow(color, "PNG")
    late = plain.rindex(b"IEND") - 4
    yield "turned6-after-pixels.png", plain[:late] + chunk(b"eXIf", exif(6)[6:]) + plain[late:]
    yield "progressive.jpg", pillow(color, "JPEG", quality=85, progressive=True)
    yield "444.jpg", pillow(color, "JPEG", quality=85, subsampling=0)
    yield "422.jpg", pillow(color, "JPEG", quality=85, subsampling=1)
    for name, factor in (("411", cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411), ("440", cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440)):
        yield f"{name}.jpg", cv2.imencode(".jpg", np.array(color)[:, :, ::-1], [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])[1].tobytes()
    yield "grey.jpg", pillow(grey, "JPEG", quality=85)
    yield "rgb.jpg", pillow(color, "JPEG", quality=85, keep_rgb=True)
    yield "restarts.jpg", pillow(color, "JPEG", quality=85, restart_marker_rows=1)
    yield "optimised.jpg", pillow(color, "JPEG", quality=85, optimize=True)
    yield "after-the-end.jpg", pillow(color, "JPEG", quality=85) + b"trailing \xff\xd8\xff bytes"
    yield "1x1.jpg", pillow(Image.fromarray(pattern(1, 1, 2)), "JPEG", quality=95)
    yield "1x1.png", pillow(Image.fromarray(pattern(1, 1, 2)), "PNG")
    yield "1x1.webp", pillow(Image.fromarray(pattern(1, 1, 2)), "WEBP", quality=90)
    yield "63x64.jpg", pillow(Image.fromarray(pattern(63, 64)), "JPEG", quality=95)
    yield "63x64.png", pillow(Image.fromarray(pattern(63, 64)), "PNG")
    yield "64x64.png", pillow(Image.fromarray(pattern(64, 64)), "PNG")
    yield "rgba.png", pillow(rgba, "PNG")
    yield "grey.png", pillow(grey, "PNG")
    yield "grey-alpha.png", pillow(rgba.convert("LA"), "PNG")
    yield "palette.png", pillow(color.quantize(60), "PNG")
    yield "palette-transparent.png", pillow(color.quantize(60), "PNG", transparency=bytes(range(0, 240, 4)))
    yield "1bit.png", pillow(grey.convert("1"), "PNG")
    yield "grey-transparent.png", pillow(grey, "PNG", transparency=77)
    yield "rgb-transparent.png", pillow(color, "PNG", transparency=(0, 0, 0))
    wide = (pattern(45, 29).astype(np.uint16) * 257 + pattern(45, 29, 1)).astype(">u2")
    yield "16bit.png", png(45, 29, 16, 2, [row.tobytes() for row in wide])
    yield "16bit-grey.png", png(45, 29, 16, 0, [row[:, 0].tobytes() for row in wide])
    yield "16bit-rgba.png", png(45, 29, 16, 6, [np.concatenate([row, row[:, :1]], 1).tobytes() for row in wide])
    for depth in (2, 4):
        rows = [np.packbits(np.unpackbits(pattern(48, 9)[y, :, :1], axis=1)[:, :depth].ravel()).tobytes() for y in range(9)]
        yield f"{depth}bit.png", png(48, 9, depth, 0, rows)
    yield "gamma.png", png(45, 29, 8, 2, [row.tobytes() for row in pattern(45, 29)], chunk(b"gAMA", struct.pack(">I", 100000)))
    yield "interlaced.png", cv2_interlaced()
    yield "animated.png", pillow(color, "PNG", save_all=True, append_images=[Image.fromarray(pattern(45, 29, 1))])
    lossy = Image.fromarray(pattern(61, 47))
    yield "lossy.webp", pillow(lossy, "WEBP", quality=80)
    yield "lossy-smooth.webp", pillow(Image.fromarray(pattern(61, 47, 1)), "WEBP", quality=60)
    yield "lossy-alpha.webp", pillow(rgba, "WEBP", quality=80)
    yield "lossless.webp", pillow(color, "WEBP", lossless=True)
    yield "lossless-alpha.webp", pillow(rgba, "WEBP", lossless=True, exact=True)
    yield "animated.webp", pillow(color, "WEBP", save_all=True, lossless=True, append_images=[Image.fromarray(pattern(45, 29, 1))])


def cv2_interlaced():
    """Adam7 by hand: neither library writes it."""
    image, content = pattern(45, 29), b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for row in image[y::dy, x::dx]:
            content += b"\0" + row.tobytes()
    header = struct.pack(">IIBBBBB", 45, 29, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content, 9)) + chunk(b"IEND", b"")


def bad_files():
    color = Image.fromarray(pattern(45, 29))
    whole = pillow(color, "JPEG", quality=90)
    progressive = pillow(color, "JPEG", quality=90, progressive=True)
    yield "empty.jpg", b"", "empty"
    yield "text.jpg", b"This is no image, whatever its name says.\n", "text"
    yield "gif.jpg", pillow(color.convert("P"), "GIF"), "GIF"
    yield "cmyk.jpg", pillow(color.convert("CMYK"), "JPEG", quality=90), "CMYK"
    yield "truncated.jpg", whole[: len(whole) * 2 // 3], "truncated"
    yield "truncated-header.jpg", whole[:100], "truncated"
    yield "truncated-progressive.jpg", progressive[: progressive.rindex(b"\xff\xda")], "truncated"
    yield "no-end.jpg", whole[:-2], "truncated"
    thumbnail = pillow(color.resize((9, 6)), "JPEG")
    app = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    yield "truncated-with-thumbnail.jpg", whole[:2] + app + whole[2 : len(whole) * 2 // 3], "truncated"
    yield "truncated.png", pillow(color, "PNG")[:300], "truncated"
    broken = bytearray(pillow(color, "PNG"))
    broken[len(broken) // 2] ^= 0xFF
    yield "damaged.png", bytes(broken), "damaged"
    yield "truncated.webp", pillow(color, "WEBP", quality=80)[:-40], "truncated"
    yield "truncated-lossless.webp", pillow(color, "WEBP", lossless=True)[:-40], "truncated"
    huge = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    yield "40000.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", huge) + chunk(b"IDAT", b"\x78\x9c"), "max_pixels"
    at = whole.index(b"\xff\xc0") + 5
    yield "40000.jpg", whole[:at] + struct.pack(">HH", 40000, 40000) + whole[at + 4 :], "max_pixels"


def jpeg_golden(array):
    return {q: digest(np.frombuffer(pillow(Image.fromarray(array), "JPEG", quality=q), np.uint8)) for q in QUALITIES}


def blurred(array, sigma):
    return np.rint(ndimage.gaussian_filter(array.astype(np.float64), (sigma, sigma, 0), mode="reflect", truncate=4)).astype(np.uint8)


def resized(array, factor):
    image = Image.fromarray(array)
    small = image.resize(tuple(max(1, int(side / factor + 0.5)) for side in image.size), Image.BICUBIC)
    return np.array(small.resize(image.size, Image.BICUBIC))


def main():
    photos = sorted(pathlib.Path(sys.argv[1]).glob("*.jpg"))
    FILES.mkdir(exist_ok=True)
    golden = {"made_with": {"opencv": cv2.__version__, "pillow": PIL.__version__, "scipy": scipy.__version__}}
    golden["good"], golden["bad"], golden["photos"] = {}, {}, {}
    for name, data in good_files():
        (FILES / name).write_bytes(data)
        pixels = opencv(data)
        golden["good"][name] = {"width": pixels.shape[1], "height": pixels.shape[0], "blake3": digest(pixels)}
    for name, data, word in bad_files():
        (FILES / name).write_bytes(data)
        golden["bad"][name] = word
    for path in photos:
        pixels = opencv(path.read_bytes())
        crop = pixels[100:613, 200:901]
        golden["photos"][path.name] = {
            "width": pixels.shape[1], "height": pixels.shape[0], "blake3": digest(pixels), "jpeg_of_crop": jpeg_golden(crop),
        }
    sizes = [(64, 64, 0), (63, 64, 0), (1, 1, 2), (7, 200, 1), (200, 7, 2), (333, 221, 0), (256, 256, 2), (129, 65, 1)]
    golden["jpeg"] = [{"width": w, "height": h, "kind": k, "blake3": jpeg_golden(pattern(w, h, k))} for w, h, k in sizes]
    # The crop of a photograph, damaged; kept whole so that the distance can be measured.
    life = next(it for it in photos if it.name.startswith("life_"))
    source = opencv(life.read_bytes())[1000:1064, 1000:1080]
    (FILES / "damage.png").write_bytes(pillow(Image.fromarray(source), "PNG", optimize=True))
    golden["damage"] = []
    for image, name in ((source, "damage.png"), (pattern(61, 47), "61x47")):
        damages = [("blur", s, blurred(image, s)) for s in (0.3, 0.5, 1, 2, 4, 30)]
        damages += [("resize", f, resized(image, f)) for f in (1.5, 2, 4, 8, 16, 1000)]
        for kind, level, pixels in damages:
            file = f"{name.removesuffix('.png')}-{kind}-{level}.png"
            (FILES / "damaged").mkdir(exist_ok=True)
            (FILES / "damaged" / file).write_bytes(pillow(Image.fromarray(pixels), "PNG", optimize=True))
            golden["damage"].append({"of": name, "kind": kind, "level": level, "file": file})
    (HERE / "images.json").write_text(json.dumps(golden, indent=1) + "\n")


main()
