"""The peer of `jobctl bench attention`: PyTorch's scaled_dot_product_attention on the same shapes, by each of its kernels.

    python benches/attention_peer.py [--repeats 10]

Prints, in bf16 on CUDA, milliseconds and 10^12 operations a second, forward and backward (medians).
"""

import argparse
import statistics
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

parser = argparse.ArgumentParser()
parser.add_argument("--repeats", type=int, default=10)
args = parser.parse_args()
SHAPES = [(2, 24, 4250, 4250, 64), (2, 24, 16538, 16538, 64), (2, 12, 16538, 16538, 128)]
KERNELS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def median_ms(work):
    work()
    torch.cuda.synchronize()
    times = []
    for _ in range(args.repeats):
        begun = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times)


print(f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name()}")
for b, h, n, m, d in SHAPES:
    operations = 4 * b * h * n * m * d
    for name, kernel in KERNELS.items():
        q, k, v, w = (
            torch.randn(b, it, h, d, device="cuda", dtype=torch.bfloat16).transpose(1, 2) for it in (n, m, m, n)
        )
        with sdpa_kernel(kernel):
            attend = torch.nn.functional.scaled_dot_product_attention
            with torch.no_grad():
                forward = median_ms(lambda: attend(q, k, v))
            for x in (q, k, v):
                x.requires_grad_()
            both = median_ms(lambda: torch.autograd.grad(attend(q, k, v), (q, k, v), w))
        back = both - forward
        print(
            f"{b:>3} {h:>2} {n:>6} {m:>6} {d:>4}  {name:<6} {forward:>8.3f} ms {operations / forward / 1e9:>6.1f} TFLOP/s"
            f"  back {back:>8.3f} ms {2.5 * operations / back / 1e9:>6.1f} TFLOP/s"
        )
