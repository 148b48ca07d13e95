"""The peer of `jobctl bench generate`: diffusers' SD3 transformer and autoencoder with random weights, on the same machine.

    python benches/generate_peer.py --device cuda --size 4096 [--steps 4] [--stride 2] [--compile]

Prints seconds a step with guidance (a batch of two), seconds of decoding, and the largest memory that torch had reserved.
diffusers has no strided autoencoder: its last convolution is given the doubled states, as Diffusion-4K does, in quarters.
"""

import argparse
import time

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cpu")
parser.add_argument("--size", type=int, default=1024)
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--stride", type=int, default=2)
parser.add_argument("--width", type=int, default=1536)
parser.add_argument("--layers", type=int, default=24)
parser.add_argument("--text-tokens", type=int, default=154)
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--no-decode", action="store_true")
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
cuda = args.device.startswith("cuda")
dtype = torch.bfloat16 if cuda else torch.float32


def sync():
    if cuda:
        torch.cuda.synchronize()


def peak():
    return f"{torch.cuda.max_memory_reserved() / 2**30:.1f} GiB" if cuda else "-"


torch.manual_seed(0)
with torch.device(args.device):
    transformer = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=args.layers, attention_head_dim=64,
        num_attention_heads=args.width // 64, joint_attention_dim=4096, caption_projection_dim=args.width,
        pooled_projection_dim=2048, pos_embed_max_size=192,
    ).to(dtype).eval()
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, norm_num_groups=32,
        use_quant_conv=False, use_post_quant_conv=False,
    ).to(dtype).eval()
side = args.size // 8 // args.stride
latent = torch.randn(1, 16, side, side, device=args.device, dtype=dtype)
context = torch.randn(2, args.text_tokens, 4096, device=args.device, dtype=dtype)
pooled = torch.randn(2, 2048, device=args.device, dtype=dtype)
model = torch.compile(transformer) if args.compile else transformer


@torch.no_grad()
def step(x):
    timestep = torch.full((2,), 500.0, device=args.device)
    velocity = model(torch.cat([x, x]), encoder_hidden_states=context, pooled_projections=pooled, timestep=timestep, return_dict=False)[0]
    without, with_ = velocity.chunk(2)
    return x - 0.02 * (without + 7.0 * (with_ - without))


def halves(x):
    """The strided end: quarters with a halo of one pixel, doubled, convolved, cropped."""
    conv = vae.decoder.conv_out
    _, _, h, w = x.shape
    x = torch.nn.functional.pad(x, (1, 1, 1, 1))
    rows = []
    for i in (0, h // 2):
        row = []
        for j in (0, w // 2):
            part = x[:, :, i:i + h // 2 + 2, j:j + w // 2 + 2]
            part = torch.nn.functional.conv2d(torch.nn.functional.interpolate(part, scale_factor=2.0), conv.weight, conv.bias, padding=1)
            row.append(part[:, :, 2:-2, 2:-2])
        rows.append(torch.cat(row, 3))
    return torch.cat(rows, 2)


if args.stride == 2:
    vae.decoder.conv_out_weights = vae.decoder.conv_out

    class End(torch.nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.weight, self.bias = conv.weight, conv.bias

        def forward(self, x):
            return halves(x)

    vae.decoder.conv_out = End(vae.decoder.conv_out_weights)


@torch.no_grad()
def decode(x):
    return vae.decode(x, return_dict=False)[0]


def timed(work, n):
    work(latent)
    sync()
    seconds = []
    for _ in range(n):
        begun = time.perf_counter()
        work(latent)
        sync()
        seconds.append(time.perf_counter() - begun)
    seconds.sort()
    return f"{seconds[len(seconds) // 2]:.3f} s median of {n} ({seconds[0]:.3f} to {seconds[-1]:.3f})"


print(f"diffusers{' compiled' if args.compile else ''}, {args.size}x{args.size}, {dtype}")
print("step  ", timed(step, args.steps), peak())
if not args.no_decode:
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    print("decode", timed(decode, 2), peak())
