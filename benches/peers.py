"""Times jobctl's metrics against the libraries that define them, in one run, in turns, on one thread each.

Usage: python benches/peers.py JOBCTL PHOTO [ROUNDS]

JOBCTL is the program, built with --release. In every round it and then each library does each piece of work once, so
that both meet the same machine (torchmetrics in the first round only: it takes minutes). The values must agree. Needs numpy, scikit-image, opencv-python-headless, Pillow,
torch and torchmetrics.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import time

for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[variable] = "1"

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.feature import graycomatrix
from skimage.measure import shannon_entropy
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

cv2.setNumThreads(1)
torch.set_num_threads(1)
SIDE = 4096
ANGLES = [0, np.pi / 4, np.pi / 2, np.pi * 3 / 4]


def jobctl(program, photo):
    command = [program, "bench", "metrics", photo, "--side", str(SIDE), "--threads", "2", "--runs", "1", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def encode(rgb, quality):
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality)
    return out.getvalue()


def glcm_score(rgb):
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) // 4
    scores = [
        shannon_entropy(graycomatrix(grey[y : y + 64, x : x + 64], [1, 2, 3, 4], ANGLES, 64, normed=True))
        for y in range(0, SIDE, 64)
        for x in range(0, SIDE, 64)
    ]
    return np.mean(scores)


def torch_ssim(rgb, reference):
    a, b = (torch.from_numpy(it / 255).permute(2, 0, 1)[None] for it in (rgb, reference))
    return structural_similarity_index_measure(a, b, data_range=1.0).item()


def work(photo):
    """Stage, library, and what it does there: the same as jobctl."""
    data = open(photo, "rb").read()
    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    pad = [(0, max(0, SIDE - it)) for it in rgb.shape[:2]] + [(0, 0)]
    square = np.ascontiguousarray(np.pad(rgb, pad, mode="symmetric")[:SIDE, :SIDE])
    image = Image.fromarray(square)
    quarter = np.ascontiguousarray(square[: SIDE // 2, : SIDE // 2])
    damaged = np.array(Image.open(io.BytesIO(encode(quarter, 30))))
    gaussian = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)

    def jpeg95():
        out = io.BytesIO()
        image.save(out, "JPEG", quality=95)
        return out.tell()

    def decode():
        return np.prod(Image.open(io.BytesIO(data)).convert("RGB").size) * 3

    def skimage(**options):
        return structural_similarity(damaged, quarter, channel_axis=2, data_range=255, **options)

    yield "decode", "Pillow", decode
    yield "decode", "OpenCV", lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).size
    yield "jpeg95", "Pillow", jpeg95
    yield "glcm_score", "scikit-image", lambda: glcm_score(square)
    yield "ssim:torchmetrics", "torchmetrics", lambda: torch_ssim(damaged, quarter)
    yield "ssim:skimage", "scikit-image", lambda: skimage(**gaussian)
    yield "ssim:skimage-uniform", "scikit-image", lambda: skimage()


def spread(times):
    return f"{statistics.median(times):8.4f} ({min(times):.4f} to {max(times):.4f})"


def main():
    program, photo = sys.argv[1:3]
    n_rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    pieces = list(work(photo))
    theirs = {(stage, library): [] for stage, library, _ in pieces}
    ours, values = {}, {}
    for round_ in range(n_rounds):
        report = jobctl(program, photo)
        for row in report["stages"]:
            ours.setdefault((row["stage"], row["threads"]), []).extend(row["runs"])
            values[row["stage"]] = row["value"]
        for stage, library, run in pieces:
            if library == "torchmetrics" and round_ > 0:
                continue
            start = time.perf_counter()
            value = run()
            theirs[stage, library].append(time.perf_counter() - start)
            if abs(value - values[stage]) > 1e-9 * max(1, abs(value)):
                sys.exit(f"{stage}: {library} says {value}, jobctl {values[stage]}")

    print(f"{report['cpu']}, {report['mhz']:.0f} MHz by /proc/cpuinfo; {n_rounds} rounds; seconds: median (min to max)")
    print(f"{'':22}{'jobctl':32}{'library':46}{'times faster':>12}")
    for (stage, library), times in theirs.items():
        mine = ours[stage, 1]
        ratio = statistics.median(times) / statistics.median(mine)
        print(f"{stage:22}{spread(mine):32}{library:14}{spread(times):32}{ratio:12.1f}")
    for (stage, threads), times in ours.items():
        if threads > 1:
            gain = statistics.median(ours[stage, 1]) / statistics.median(times)
            print(f"{stage:22}{spread(times):32}on {threads} threads{gain:47.2f}")
    n_increments = (SIDE // 64) ** 2 * 54556
    cycles = statistics.median(ours["glcm_score", 1]) * report["mhz"] * 1e6 / n_increments
    print(f"glcm_score: {cycles:.2f} cycles an increment at that clock; all values agree")


if __name__ == "__main__":
    main()
