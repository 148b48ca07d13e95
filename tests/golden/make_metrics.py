"""Writes metrics.json: what scikit-image, OpenCV, Pillow and torchmetrics say of photographs and of synthetic images.

Usage: python make_metrics.py PHOTOS > metrics.json

PHOTOS is the folder that jobs/photos.sh fills.
Made with blake3 1.0, numpy 2.4, scikit-image 0.26, OpenCV 5.0, Pillow 13.0, torch 2.13 and torchmetrics 1.9.
"""

import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from blake3 import blake3
from PIL import Image
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import shannon_entropy
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

cv2.setNumThreads(1)
PROPERTIES = ["contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM"]
ANGLES = [0, np.pi / 4, np.pi / 2, np.pi * 3 / 4]


def patches(rgb):
    grey = cv2.cvtColor(np.ascontiguousarray(rgb[:, :, ::-1]), cv2.COLOR_BGR2GRAY) // 4
    for y in range(grey.shape[0] // 64):
        for x in range(grey.shape[1] // 64):
            yield graycomatrix(
                grey[64 * y : 64 * y + 64, 64 * x : 64 * x + 64], [1, 2, 3, 4], ANGLES, 64, symmetric=False, normed=True
            )


def entropy(p):
    """Mean over the matrices of -sum p log2 p."""
    logs = np.log2(p, where=p > 0, out=np.zeros_like(p))
    return -(p * logs).sum(axis=(0, 1)).mean()


def glcm(rgb, textures):
    if min(rgb.shape[:2]) < 64:
        return {}
    scores, entropies, features = [], [], []
    for p in patches(rgb):
        scores.append(shannon_entropy(p))
        entropies.append(entropy(p))
        if textures:
            features.append([graycoprops(p, it).mean() for it in PROPERTIES])
    out = {"glcm_score": float(np.mean(scores)), "glcm_entropy": float(np.mean(entropies))}
    if textures:
        out |= {f"glcm_texture:{k.lower()}": float(v) for k, v in zip(PROPERTIES, np.mean(features, axis=0))}
    return out


def encode(rgb, quality):
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality)
    return out.getvalue()


def compression(rgb):
    data = encode(rgb, 95)
    return {"jpeg95_bytes": len(data), "jpeg95_blake3": blake3(data).hexdigest()}


def compare(rgb, reference):
    x, y = rgb.astype(np.float64), reference.astype(np.float64)
    mse = np.mean((x - y) ** 2)
    out = {"damaged_blake3": blake3(rgb.tobytes()).hexdigest(), "mse": float(mse)}
    if mse > 0:
        out["psnr"] = float(10 * np.log10(255**2 / mse))
    span = y.max() - y.min()
    out |= {"nmse:rmse_over_mean": float(np.sqrt(mse) / y.mean()), "nmse:energy": float(mse / np.mean(y**2))}
    out |= {"nmse:rmse_over_rms": float(np.sqrt(mse) / np.sqrt(np.mean(y**2)))}
    if span > 0:
        out |= {"nmse:variance": float(mse / y.var()), "nmse:rmse_over_range": float(np.sqrt(mse) / span)}
    if min(rgb.shape[:2]) >= 6:
        a, b = (torch.from_numpy(it / 255).permute(2, 0, 1)[None] for it in (x, y))
        out["ssim:torchmetrics"] = float(structural_similarity_index_measure(a, b, data_range=1.0))
    if min(rgb.shape[:2]) >= 11:
        out["ssim:skimage"] = float(
            structural_similarity(
                rgb, reference, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            )
        )
    if min(rgb.shape[:2]) >= 7:
        out["ssim:skimage-uniform"] = float(structural_similarity(rgb, reference, channel_axis=2, data_range=255))
    return out


def synthetic():
    """Name and pixels; tests/it/metrics.rs computes the same ones."""

    def grid(width, height):
        return np.arange(width)[None, :], np.arange(height)[:, None]

    def stack(*channels):
        return np.stack(np.broadcast_arrays(*channels), axis=2).astype(np.uint8)

    def lcg(width, height):
        samples, s = [], 12345
        for _ in range(3 * width * height):
            s = (1103515245 * s + 12345) % 2**31
            samples.append(s >> 16 & 255)
        return np.array(samples, np.uint8).reshape(height, width, 3)

    x, y = grid(192, 128)
    yield "constant", stack(137 + 0 * x + 0 * y, 20, 99)
    yield "noise", lcg(200, 150)
    x, y = grid(257, 129)
    yield "gradient", stack(255 * x // 256, 255 * y // 128, (255 * x // 256 + 255 * y // 128) // 2)
    x, y = grid(64, 64)
    yield "xor", stack(x ^ y, x * y % 256, x + y)
    x, y = grid(131, 70)
    yield "checks", stack(*[255 * ((x // n + y // n) % 2) for n in (2, 3, 5)])
    x, y = grid(130, 195)
    yield "edge", stack(*[np.where((x % 64 == 63) & (y % 64 > 9), 40 + y % 8 * 20, 90)] * 3)
    x, y = grid(63, 64)
    yield "narrow", stack(4 * x, 3 * y, x * y % 256)
    x, y = grid(11, 6)
    yield "small", stack(23 * x, 40 * y, x * y)


def shift(rgb):
    x, y, c = np.arange(rgb.shape[1])[None, :, None], np.arange(rgb.shape[0])[:, None, None], np.arange(3)
    return np.clip(rgb.astype(int) + (7 * x + 13 * y + 5 * c) % 17 - 8, 0, 255).astype(np.uint8)


def jpeg30(rgb):
    return np.array(Image.open(io.BytesIO(encode(rgb, 30))))


def main():
    out = {"synthetic": {}, "photographs": {}}
    for name, rgb in synthetic():
        pixels = {"width": rgb.shape[1], "height": rgb.shape[0], "blake3": blake3(rgb.tobytes()).hexdigest()}
        out["synthetic"][name] = pixels | glcm(rgb, True) | compression(rgb) | {"shift": compare(shift(rgb), rgb)}
    for path in sorted(Path(sys.argv[1]).rglob("*.jpg")):
        rgb = cv2.imread(str(path))[:, :, ::-1].copy()
        height, width = rgb.shape[:2]
        whole = {"width": width, "height": height, "blake3": blake3(rgb.tobytes()).hexdigest()}
        whole |= glcm(rgb, False) | compression(rgb)
        top, left = (height - 771) // 2, (width - 1023) // 2
        crop = rgb[top : top + 771, left : left + 1023].copy()
        crop = glcm(crop, True) | compression(crop) | {"jpeg30": compare(jpeg30(crop), crop)}
        out["photographs"][path.name] = whole | {"crop_1023x771": crop}
        print(path.name, file=sys.stderr)
    json.dump(out, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
