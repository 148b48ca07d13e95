"""The peer of `jobctl bench train`: diffusers' SD3 transformer in PyTorch, with random weights, on the same machine.

    python benches/train_peer.py --device cuda --size 4096 [--batch 1] [--steps 4] [--masters] [--no-checkpointing]

Prints seconds a step, images a second, and the largest memory that torch had reserved (on the CPU: resident). Weights and
AdamW's states are bf16 on CUDA; with --masters AdamW keeps f32 ones, as jobctl does.
"""

import argparse
import resource
import time

import torch
from diffusers import SD3Transformer2DModel

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cpu")
parser.add_argument("--size", type=int, default=1024)
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--width", type=int, default=1536)
parser.add_argument("--layers", type=int, default=24)
parser.add_argument("--text-tokens", type=int, default=154)
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--masters", action="store_true")
parser.add_argument("--no-checkpointing", action="store_true")
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
cuda = args.device.startswith("cuda")
dtype = torch.bfloat16 if cuda else torch.float32

torch.manual_seed(0)
with torch.device(args.device):
    model = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=args.layers, attention_head_dim=64,
        num_attention_heads=args.width // 64, joint_attention_dim=4096, caption_projection_dim=args.width,
        pooled_projection_dim=2048, pos_embed_max_size=192,
    ).to(dtype).train()
if not args.no_checkpointing:
    model.enable_gradient_checkpointing()
parameters = list(model.parameters())
masters = [it.detach().float() for it in parameters] if args.masters and cuda else parameters
optimiser = torch.optim.AdamW(masters, lr=1e-6, weight_decay=1e-4, fused=cuda)

side = args.size // 16
rand = lambda *shape: torch.randn(*shape, device=args.device)
x0, noise = rand(args.batch, 16, side, side), rand(args.batch, 16, side, side)
context, pooled = rand(args.batch, args.text_tokens, 4096).to(dtype), rand(args.batch, 2048).to(dtype)
sigma = ((torch.arange(args.batch, device=args.device) + 0.5) / args.batch).view(-1, 1, 1, 1)


def haar(x):
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 1) / 2


def step():
    noisy = (1 - sigma) * x0 + sigma * noise
    v = model(hidden_states=noisy.to(dtype), timestep=sigma.flatten() * 1000, encoder_hidden_states=context, pooled_projections=pooled, return_dict=False)[0]
    loss = (haar(noisy - sigma * v.float()) - haar(x0)).pow(2).mean()
    loss.backward()
    if masters is not parameters:
        for master, it in zip(masters, parameters):
            master.grad = it.grad.float()
            it.grad = None
    torch.nn.utils.clip_grad_norm_(masters, 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    if masters is not parameters:
        with torch.no_grad():
            torch._foreach_copy_(parameters, masters)
    return loss


times = []
for _ in range(args.steps + 1):
    begun = time.perf_counter()
    loss = step().item()
    if cuda:
        torch.cuda.synchronize()
    times.append(time.perf_counter() - begun)
times = sorted(times[1:])
peak = torch.cuda.max_memory_reserved() / 2**30 if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{args.size}x{args.size}, batch {args.batch}, torch {torch.__version__}, {dtype}, loss {loss:.4f}")
print(f"step     {times[len(times) // 2]:.3f} s median of {len(times)} ({times[0]:.3f} to {times[-1]:.3f})")
print(f"images   {args.batch * len(times) / sum(times):.3f} a second")
print(f"memory   {peak:.1f} GiB at most")
